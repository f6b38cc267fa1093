"""A headless Chromium, driven through its DevTools protocol: open a page, press keys, ask it things."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OFF = ("gpu", "quic", "background-networking", "component-update", "sync")
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "PageUp": 33, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
"""The numbers by which a browser knows keys that do something by themselves."""
OPTIONS = ["--headless", "--no-sandbox", "--no-first-run", "--window-size=1366,768", "--remote-debugging-port=0"]


class Page:
    """One tab. Its downloads go to the folder that `browser` was given."""

    def __init__(self, socket):
        self._socket, self._numbers = socket, itertools.count(1)
        self.errors: list[str] = []
        self.events: list[tuple[str, dict]] = []

    def call(self, method: str, **parameters) -> dict:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(message["params"]["exceptionDetails"]["text"])
            if "method" in message:
                self.events.append((message["method"], message["params"]))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def open(self, place: Path | str) -> None:
        """Goes to a file or an address."""
        self.call("Page.navigate", url=place if isinstance(place, str) else place.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def ask(self, expression: str):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not self.ask(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        for key in keys:
            code = f"Key{key.upper()}" if key.isalpha() and len(key) == 1 else key
            written = {"text": "\r" if key == "Enter" else key} if key in ("Enter", " ") else {}
            number = {"windowsVirtualKeyCode": KEYS[key]} if key in KEYS else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, **number, **written)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code, **number)

    def choose(self, field: str, *files: Path) -> None:
        """Gives files to the file field that a CSS selector names."""
        node = self.call("Runtime.evaluate", expression=f"document.querySelector('{field}')")["result"]["objectId"]
        self.call("DOM.setFileInputFiles", files=[str(file.resolve()) for file in files], objectId=node)


@contextmanager
def browser(folder: Path):
    """A page of a new Chromium with its own profile below `folder`; downloads go to folder/downloads."""
    from websockets.sync.client import connect

    profile, downloads = folder / "profile", folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    command = [CHROMIUM, *OPTIONS, *(f"--disable-{name}" for name in OFF), f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file, end = profile / "DevToolsActivePort", time.monotonic() + 60
        while not port_file.exists() or not port_file.read_text():
            assert process.poll() is None
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        targets = json.load(urlopen(f"http://127.0.0.1:{port}/json"))
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        with connect(address, max_size=None, proxy=None) as socket:
            page = Page(socket)
            page.call("Runtime.enable")
            page.call("Page.enable")
            page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
            yield page
    finally:
        process.terminate()
        process.wait(timeout=30)
