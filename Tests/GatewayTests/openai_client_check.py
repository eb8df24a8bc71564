#!/usr/bin/env python3
"""Drives a running gateway with the unmodified `openai` package: create, retrieve, list, download, delete, errors.

usage: openai_client_check.py BASE_URL [--prompt TEXT] [--timeout SECONDS]

BASE_URL is the gateway's address, such as http://127.0.0.1:8080. Prints one line per check and `N passed, 0 failed`;
exits 1 when one fails. Without the openai package it prints `SKIPPED: …` and exits 0.
"""

import argparse
import os
import sys
import time
import warnings

# A script's own folder comes first on the path; nothing here may stand in for a package.
sys.path = [entry for entry in sys.path if os.path.abspath(entry or ".") != os.path.dirname(os.path.abspath(__file__))]

try:
    import openai
except ImportError as error:
    print(f"SKIPPED: the openai package is not installed ({error})")
    sys.exit(0)

# The package says of every call that OpenAI's own service has ended.
warnings.filterwarnings("ignore", category=DeprecationWarning)

passed = 0
failed = 0


def check(name, condition, detail=""):
    global passed, failed
    passed, failed = (passed + 1, failed) if condition else (passed, failed + 1)
    print(f"{'ok    ' if condition else 'FAILED'} {name}{'' if condition else f': {detail}'}", flush=True)


def refused(name, kind, code, call):
    try:
        call()
    except kind as error:
        body = error.body if isinstance(error.body, dict) else {}
        check(name, body.get("code", error.code) == code, f"code {error.code}, body {error.body}")
    except Exception as error:  # the wrong kind is a failed check, not a crash
        check(name, False, f"{type(error).__name__}: {error}")
    else:
        check(name, False, "nothing was raised")


def wait_until_done(client, video, timeout):
    deadline = time.monotonic() + timeout
    progress = [video.progress]
    while video.status in ("queued", "in_progress"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{video.id} is still {video.status} after {timeout} s")
        time.sleep(0.3)
        video = client.videos.retrieve(video.id)
        progress.append(video.progress)
    return video, progress


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("base_url")
    parser.add_argument("--prompt", default="the sun rising over green hills")
    parser.add_argument("--timeout", type=float, default=300)
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=f"{arguments.base_url.rstrip('/')}/v1", api_key="unused", max_retries=0)

    video = client.videos.create(prompt=arguments.prompt, extra_body={"seed": 7, "num_inference_steps": 4})
    check("create answers a queued or running video", video.status in ("queued", "in_progress"), video)
    check("create keeps the prompt", video.prompt == arguments.prompt, video)
    check("create keeps fields of extra_body", video.model_extra.get("seed") == 7, video)
    check("the object is a video", video.object == "video" and video.id.startswith("video_"), video)

    video, progress = wait_until_done(client, video, arguments.timeout)
    check("the video is completed", video.status == "completed", video.error)
    check("progress ends at 100 and stays in range", progress[-1] == 100 and all(0 <= p <= 100 for p in progress), progress)
    check("times are in order", video.completed_at is not None and video.completed_at >= video.created_at, video)
    check("size and seconds are text", "x" in video.size and video.seconds.isdigit(), (video.size, video.seconds))

    content = client.videos.download_content(video.id).read()
    check("the video is an MP4 file", content[4:8] == b"ftyp", content[:16])
    thumbnail = client.videos.download_content(video.id, variant="thumbnail").read()
    check("the thumbnail is a JPEG file", thumbnail[:3] == b"\xff\xd8\xff", thumbnail[:16])
    sheet = client.videos.download_content(video.id, variant="spritesheet").read()
    check("the spritesheet is a PNG file", sheet[:8] == b"\x89PNG\r\n\x1a\n", sheet[:16])

    second = client.videos.create(prompt=arguments.prompt, size=video.size, seconds=video.seconds)
    check("size and seconds are taken", second.size == video.size and second.seconds == video.seconds, second)
    listed = [entry.id for entry in client.videos.list(limit=1)]
    check("list pages through every video, newest first", listed[:2] == [second.id, video.id], listed[:4])
    deleted = client.videos.delete(second.id)
    check("delete cancels a video", deleted.deleted and deleted.object == "video.deleted", deleted)
    after = client.videos.retrieve(second.id)
    check("a cancelled video is failed", after.status == "failed" and after.error.code == "cancelled", after)

    refused("an unknown model is refused", openai.BadRequestError, "model_unknown",
            lambda: client.videos.create(prompt="a boat", model="sora-2"))
    refused("a size the model cannot make is refused", openai.BadRequestError, "size_not_multiple_of_16",
            lambda: client.videos.create(prompt="a boat", size="100x100"))
    refused("a file that is no video is refused", openai.BadRequestError, "input_video_unreadable",
            lambda: client.videos.create(prompt="a boat", input_reference=b"not an image"))
    refused("an unknown video is not found", openai.NotFoundError, "job_not_found",
            lambda: client.videos.retrieve("video_00000000000000000000000000000000"))
    refused("the content of a cancelled video is refused", openai.UnprocessableEntityError, "job_cancelled",
            lambda: client.videos.download_content(second.id))

    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
