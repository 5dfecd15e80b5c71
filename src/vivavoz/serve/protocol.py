"""The events of a session, as both sides of a WebSocket or data channel speak them: JSON objects, told apart by `type`.

The shape is that of the OpenAI Realtime API, as far as the two do the same. Sound is base64 of little-endian 16-bit samples,
mono, at the rate the session was told. An unknown field is an error that names it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vivavoz.engine.controls import Expression, State

MAX_TEXT_LETTERS = 4_000
"""Longest text of one response."""

Angle = Annotated[float, Field(ge=-1.6, le=1.6, allow_inf_nan=False)]


class Strict(BaseModel):
    """A model that refuses fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AudioFormat(Strict):
    """What the sound of this session's client is."""

    type: Literal["audio/pcm"] = "audio/pcm"
    rate: Literal[16000, 24000, 48000] = 24000
    """Samples per second."""


class TurnDetection(Strict):
    """How the server tells that the user speaks."""

    type: Literal["server_vad"] = "server_vad"
    threshold: float = Field(default=0.5, ge=0.05, le=0.95)
    """Likelihood of speech from which on it counts."""
    silence_duration_ms: int = Field(default=500, ge=100, le=5000)
    """Quiet after which the user's turn is over."""
    interrupt_response: bool = True
    """Whether the avatar stops speaking when the user begins."""


class Output(Strict):
    """What a WebSocket carries back. WebRTC carries its own tracks and ignores this."""

    type: Literal["mp4", "jpeg", "none"] = "mp4"
    """mp4: binary messages, to be appended to a SourceBuffer; jpeg: `output.frame` events; none: events only."""
    jpeg_quality: int = Field(default=80, ge=10, le=95)


class SessionControls(Strict):
    """What can be changed while a session runs. A field that is left out stays; null leaves a wish to the model again."""

    state: State | None = None
    """Held until null: without a wish the state follows from who speaks."""
    expression: Expression | None = None
    expression_intensity: float = Field(default=1.0, ge=0, le=1)
    gaze_rad: tuple[Angle, Angle] | None = None
    """Yaw, to the right of the picture, and pitch, up, of the eyes."""
    head_pose_rad: tuple[Angle, Angle, Angle] | None = None
    """Yaw, pitch and roll of the head."""
    voice: str | None = Field(default=None, max_length=64)
    """Of texts: for espeak-ng a language and variant (`en-us+f3`), for a speech endpoint what it knows; null: the server's."""
    audio_format: AudioFormat = AudioFormat()
    turn_detection: TurnDetection | None = TurnDetection()
    """null: the user's sound is ignored until committed by hand."""
    output: Output = Output()


class SessionInfo(Strict):
    """A session as the server sees it."""

    id: str
    avatar_id: str
    size_px: int
    """Side of the square picture."""
    frame_rate: int
    sound_rate_hz: int
    """Of the sound in `output.frame`."""
    expires_at: int
    """Unix time in seconds."""
    is_speaking: bool
    controls: SessionControls


class SessionMetrics(Strict):
    """How the session is doing."""

    fps: float
    """Pictures shown for the first time, per second."""
    buffered_ms: float
    """Pictures made and not yet shown."""
    lead_ms: float
    """How long before its moment a block is begun: the delay with which queued speech begins is about this and a block."""
    block_ms: float
    """What the last block took, waiting included."""
    queued_ms: float
    """Speech waiting to be said."""
    num_shown: int
    num_repeated: int
    num_skipped: int
    num_steps: int
    """Denoising steps of a block."""
    block_latents: int
    """Latents of a block; each lasts 160 ms."""
    level: int
    """What is given up because the machine is too slow: 0 nothing, 1 and more fewer steps, then larger blocks."""


class _ClientEvent(Strict):
    event_id: str | None = Field(default=None, max_length=128)
    """Chosen by the client; an error that this event causes names it."""


class SessionUpdate(_ClientEvent):
    """Change the fields that are given."""

    type: Literal["session.update"]
    session: SessionControls


class InputAudioAppend(_ClientEvent):
    """Sound of the user's microphone."""

    type: Literal["input_audio_buffer.append"]
    audio: str


class InputAudioCommit(_ClientEvent):
    """The user's turn is over, whatever voice detection says."""

    type: Literal["input_audio_buffer.commit"]


class InputAudioClear(_ClientEvent):
    """Forget the user's sound of this turn."""

    type: Literal["input_audio_buffer.clear"]


class ResponseInput(Strict):
    """What to say: `text`, or `audio`, or neither: then `response.audio.append` brings the sound."""

    text: str | None = Field(default=None, min_length=1, max_length=MAX_TEXT_LETTERS)
    audio: str | None = None


class ResponseCreate(_ClientEvent):
    """Say something, after what is being said."""

    type: Literal["response.create"]
    response: ResponseInput = ResponseInput()


class ResponseAudioAppend(_ClientEvent):
    """More sound of the response that is open, faster or slower than real time."""

    type: Literal["response.audio.append"]
    audio: str


class ResponseAudioDone(_ClientEvent):
    """The open response has all its sound."""

    type: Literal["response.audio.done"]


class ResponseCancel(_ClientEvent):
    """Stop speaking now, and forget all that is queued."""

    type: Literal["response.cancel"]


ClientEvent = Annotated[
    SessionUpdate
    | InputAudioAppend
    | InputAudioCommit
    | InputAudioClear
    | ResponseCreate
    | ResponseAudioAppend
    | ResponseAudioDone
    | ResponseCancel,
    Field(discriminator="type"),
]


class SessionCreated(Strict):
    """First event of every connection."""

    type: Literal["session.created"] = "session.created"
    session: SessionInfo


class SessionUpdated(Strict):
    """What holds after `session.update`."""

    type: Literal["session.updated"] = "session.updated"
    session: SessionInfo


class SessionClosed(Strict):
    """Last event: the session is over."""

    type: Literal["session.closed"] = "session.closed"
    reason: str


class SpeechStarted(Strict):
    """The user has begun to speak; the avatar listens."""

    type: Literal["input_audio_buffer.speech_started"] = "input_audio_buffer.speech_started"
    audio_start_ms: int
    """On the clock of the sound that was appended."""


class SpeechStopped(Strict):
    """The user has stopped."""

    type: Literal["input_audio_buffer.speech_stopped"] = "input_audio_buffer.speech_stopped"
    audio_end_ms: int


class InputAudioCommitted(Strict):
    """Answer to `input_audio_buffer.commit`."""

    type: Literal["input_audio_buffer.committed"] = "input_audio_buffer.committed"


class InputAudioCleared(Strict):
    """Answer to `input_audio_buffer.clear`."""

    type: Literal["input_audio_buffer.cleared"] = "input_audio_buffer.cleared"


class ResponseInfo(Strict):
    """Something the avatar says."""

    id: str
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    played_ms: int
    """How much of it has been heard."""


class ResponseCreated(Strict):
    """A response is queued."""

    type: Literal["response.created"] = "response.created"
    response: ResponseInfo


class ResponseStarted(Strict):
    """Its first sound is being heard."""

    type: Literal["response.started"] = "response.started"
    response: ResponseInfo


class ResponseDone(Strict):
    """It is over: said to the end, cancelled, or failed."""

    type: Literal["response.done"] = "response.done"
    response: ResponseInfo


class AvatarStateChanged(Strict):
    """The pictures from now on show this state."""

    type: Literal["avatar.state"] = "avatar.state"
    state: State
    time_ms: int
    """On the clock of pictures and sound."""


class OutputStarted(Strict):
    """Before the first binary message: what they are."""

    type: Literal["output.started"] = "output.started"
    mime: str
    """For `MediaSource.addSourceBuffer`."""


class OutputFrame(Strict):
    """One picture and its 40 ms of sound."""

    type: Literal["output.frame"] = "output.frame"
    index: int
    time_ms: int
    state: State
    is_repeat: bool
    image: str
    """Base64 of a JPEG."""
    audio: str
    """Base64 of PCM16 at the session's `sound_rate_hz`."""


class OutputFlush(Strict):
    """The avatar was interrupted: drop what is buffered beyond `time_ms`, and go on with what follows."""

    type: Literal["output.flush"] = "output.flush"
    time_ms: int


class OutputDropped(Strict):
    """The connection is too slow: this much was left out, pictures and sound alike. MP4 goes on with a keyframe."""

    type: Literal["output.dropped"] = "output.dropped"
    num_frames: int
    time_ms: int
    """Where it goes on."""


class Metrics(Strict):
    """Once a second."""

    type: Literal["session.metrics"] = "session.metrics"
    metrics: SessionMetrics


class ErrorInfo(Strict):
    """What went wrong."""

    code: str
    message: str
    param: str | None = None
    """The field that is wrong."""
    event_id: str | None = None
    """The client's event that caused it."""


class ErrorEvent(Strict):
    """Something could not be done; the session goes on."""

    type: Literal["error"] = "error"
    error: ErrorInfo


ServerEvent = (
    SessionCreated
    | SessionUpdated
    | SessionClosed
    | SpeechStarted
    | SpeechStopped
    | InputAudioCommitted
    | InputAudioCleared
    | ResponseCreated
    | ResponseStarted
    | ResponseDone
    | AvatarStateChanged
    | OutputStarted
    | OutputFrame
    | OutputFlush
    | OutputDropped
    | Metrics
    | ErrorEvent
)
