"""`make demo`: animate a portrait with a recorded sentence, by the same command a user would type."""

import subprocess
import sys
import time
from pathlib import Path

import skimage.data

from vivavoz.media.image import write_image
from vivavoz.media.video import contact_sheet, read_video

SPEECH = Path(__file__).with_name("speech.flac")
PORTRAIT = Path("portrait.png")
VIDEO = Path("demo.mp4")
SHEET = Path("demo.png")
NUM_TILES = 15


def main() -> int:
    """Write the portrait, the video and its contact sheet to the current directory; return the exit code."""
    write_image(PORTRAIT, skimage.data.astronaut())
    command = [str(Path(sys.executable).with_name("vivavoz")), "generate", str(PORTRAIT), str(SPEECH), "-o", str(VIDEO)]
    print("$", *command, flush=True)
    start_s = time.perf_counter()
    if code := subprocess.run(command, check=False).returncode:
        return code
    took_s = time.perf_counter() - start_s

    video = read_video(VIDEO)
    times_and_frames = list(video.frames())
    num_frames = len(times_and_frames)
    tiles = [times_and_frames[round(i * (num_frames - 1) / (NUM_TILES - 1))] for i in range(NUM_TILES)]
    write_image(SHEET, contact_sheet([frame for _, frame in tiles], times_s=[seconds for seconds, _ in tiles]))
    print(f"video:         {VIDEO.resolve()}")
    length = f"{float(num_frames / video.frame_rate):.2f} s, {num_frames} frames of {video.width}x{video.height}"
    print(f"               {length}, {video.frame_rate} a second")
    print(f"made in:       {took_s:.1f} s, start to end: {num_frames / took_s:.1f} frames a second")
    print(f"contact sheet: {SHEET.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
