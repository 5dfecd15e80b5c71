"""A client's events to a session's methods: the same for WebSockets and data channels."""

from __future__ import annotations

from vivavoz.errors import ProtocolError, ServeError, VivavozError
from vivavoz.serve import protocol
from vivavoz.serve.outlet import Outlet
from vivavoz.serve.protocol import ErrorEvent, ErrorInfo
from vivavoz.serve.session import LiveSession
from vivavoz.serve.wire import decode_sound, parse_client_event


def handle(session: LiveSession, outlet: Outlet, text: str | bytes) -> None:
    """Do what an event asks for; what is wrong with it is told to `outlet`, and the session goes on."""
    event_id = None
    try:
        event = parse_client_event(text)
        event_id = event.event_id
        _do(session, outlet, event)
    except VivavozError as error:
        outlet.tell(ErrorEvent(error=error_info(error, event_id)))


def error_info(error: VivavozError, event_id: str | None = None) -> ErrorInfo:
    """An error as a client sees it."""
    code = (
        "invalid_event" if isinstance(error, ProtocolError) else "refused" if isinstance(error, ServeError) else "invalid_value"
    )
    return ErrorInfo(code=code, message=str(error), param=getattr(error, "param", None), event_id=event_id)


def _do(session: LiveSession, outlet: Outlet, event: protocol.ClientEvent) -> None:
    rate_hz = session.controls.audio_format.rate
    match event:
        case protocol.SessionUpdate():
            session.update(event.session)
        case protocol.InputAudioAppend():
            session.hear(decode_sound(event.audio), rate_hz)
        case protocol.InputAudioCommit():
            session.commit_hearing()
            outlet.tell(protocol.InputAudioCommitted())
        case protocol.InputAudioClear():
            session.clear_hearing()
            outlet.tell(protocol.InputAudioCleared())
        case protocol.ResponseCreate():
            if event.response.text is not None and event.response.audio is not None:
                raise ProtocolError("response: got text and audio; expected one of them", param="response.audio")
            if event.response.text is not None:
                session.say(event.response.text)
            elif event.response.audio is not None:
                samples = decode_sound(event.response.audio)
                session.begin_speech()
                session.push_speech(samples, rate_hz)
                session.end_speech()
            else:
                session.begin_speech()
        case protocol.ResponseAudioAppend():
            session.push_speech(decode_sound(event.audio), rate_hz)
        case protocol.ResponseAudioDone():
            session.end_speech()
        case protocol.ResponseCancel():
            session.interrupt()
