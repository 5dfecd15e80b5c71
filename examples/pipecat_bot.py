"""A Pipecat bot with a face, in a browser, by WebRTC.

pip install '.[pipecat]' 'pipecat-ai[webrtc,silero,runner,openai]'
OPENAI_API_KEY=... PORTRAIT=anna.jpg python examples/pipecat_bot.py      # then open the address that it prints
"""

import os
from functools import cache

from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.runner.types import RunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.openai.stt import OpenAISTTService
from pipecat.services.openai.tts import OpenAITTSService
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

import vivavoz
from vivavoz.engine.avatar import Avatar
from vivavoz.serve.adapters.pipecat import PipecatAvatar
from vivavoz.serve.local import local_session


@cache
def person() -> Avatar:
    """Once per process: the model, and the person."""
    return vivavoz.load().avatar(os.environ["PORTRAIT"])


def params() -> TransportParams:
    """Pictures are synchronised with the sound, so they are not live: see the adapter."""
    size_px = person().size
    return TransportParams(
        audio_in_enabled=True,
        audio_out_enabled=True,
        video_out_enabled=True,
        video_out_is_live=False,
        video_out_width=size_px,
        video_out_height=size_px,
        video_out_framerate=50,
    )


async def bot(arguments: RunnerArguments) -> None:
    """One visitor."""
    key = os.environ["OPENAI_API_KEY"]
    transport = await create_transport(arguments, {"webrtc": params})
    context = LLMContext([{"role": "system", "content": "You are Anna. Answer in one or two short sentences."}])
    user, assistant = LLMContextAggregatorPair(context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()))
    async with local_session(person()) as session:
        stages = [
            transport.input(),
            OpenAISTTService(api_key=key),
            user,
            OpenAILLMService(api_key=key),
            OpenAITTSService(api_key=key),
            PipecatAvatar(session),
            transport.output(),
            assistant,
        ]
        worker = PipelineWorker(Pipeline(stages))
        transport.add_event_handler("on_client_disconnected", lambda *_: worker.cancel())
        runner = WorkerRunner(handle_sigint=arguments.handle_sigint)
        await runner.add_workers(worker)
        await runner.run()


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
