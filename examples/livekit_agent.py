"""A LiveKit agent with a face, in the agent's own process.

    pip install '.[livekit]' livekit-plugins-silero
    LIVEKIT_URL=... LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... PORTRAIT=anna.jpg python examples/livekit_agent.py dev

Hearing, language model and voice come from LiveKit's inference here; any plugin will do.
"""

import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, JobProcess, UserStateChangedEvent, cli
from livekit.agents.voice.avatar import AvatarRunner, QueueAudioOutput
from livekit.agents.voice.room_io import RoomOptions

import vivavoz
from vivavoz.serve.adapters.livekit import LiveKitAvatar
from vivavoz.serve.local import local_session

server = AgentServer()


def prewarm(process: JobProcess) -> None:
    """Once per process: the model, and the person."""
    process.userdata["avatar"] = vivavoz.load().avatar(os.environ["PORTRAIT"])


server.setup_fnc = prewarm


@server.rtc_session()
async def talk(job: JobContext) -> None:
    """One room."""
    from livekit.plugins import silero

    await job.connect()
    agent = AgentSession(vad=silero.VAD.load(), stt="deepgram/nova-3", llm="openai/gpt-4.1-mini", tts="cartesia/sonic-3")
    sound = QueueAudioOutput(wait_playback_start=True)
    agent.output.audio = sound
    async with local_session(job.proc.userdata["avatar"]) as session:
        avatar = LiveKitAvatar(session)
        runner = AvatarRunner(job.room, audio_recv=sound, video_gen=avatar, options=avatar.options)

        @agent.on("user_state_changed")
        def changed(event: UserStateChangedEvent) -> None:
            avatar.listen(event.new_state == "speaking")

        await runner.start()
        await agent.start(
            Agent(instructions="You are Anna. Answer in one or two short sentences."),
            room=job.room,
            room_options=RoomOptions(audio_output=False),
        )
        try:
            await runner.wait_for_complete()
        finally:
            await runner.aclose()


if __name__ == "__main__":
    cli.run_app(server)
