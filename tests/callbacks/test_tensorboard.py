import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from PIL import Image


class TensorBoard:
    """Client of TensorBoard's HTTP API."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{self.port}/data/plugin/{path}", timeout=10) as response:
            return response.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))


@pytest.fixture
def tensorboard(in_smoke_run: Path) -> Iterator[TensorBoard]:
    """TensorBoard on the smoke run, ready to answer."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        board = TensorBoard(unused.getsockname()[1])
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "lightning_logs", "--port", str(board.port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        with suppress(URLError, ConnectionError):
            if board.get_json("scalars/tags"):
                break
        assert time.monotonic() < deadline
        time.sleep(0.3)
    yield board
    process.terminate()
    process.wait(10)


def test_tensorboard_shows_curves_samples_and_attention_maps(tensorboard: TensorBoard):
    run = "smoke/version_0"
    scalars = tensorboard.get_json("scalars/tags")[run]
    assert {"train_loss", "val_loss", "val_perplexity", "val_bits_per_char", "lr", "chars_per_second"} <= scalars.keys()
    assert "hp_metric" not in scalars
    curve = tensorboard.get_json(f"scalars/scalars?run={run}&tag=val_loss")
    assert [step for _, step, _ in curve] == [10, 20]
    texts = tensorboard.get_json(f"text/text?run={run}&tag=sample/text_summary")
    assert [text["step"] for text in texts] == [10, 20]
    images = tensorboard.get_json(f"images/images?run={run}&tag=attention&sample=0")
    assert [image["step"] for image in images] == [10, 20]
    side = 16 + 16 * 12 + 16
    for image in images:
        picture = Image.open(BytesIO(tensorboard.get(f"images/individualImage?{image['query']}")))
        assert picture.size == (2 * side, side)  # two heads, one layer
        assert len(picture.getcolors(maxcolors=2**20) or []) > 10
