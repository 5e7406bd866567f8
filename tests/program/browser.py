"""Chromium without a window, driven over its DevTools protocol. Python's standard library is enough."""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request

from program import PATIENCE

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


class WebSocket:
    """As much of RFC 6455 as DevTools asks for: texts, whole or in pieces."""

    def __init__(self, address):
        host, path = address.removeprefix("ws://").split("/", 1)
        name, port = host.rsplit(":", 1)
        self.connection = socket.create_connection((name, int(port)), timeout=30 * PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        self.connection.sendall((f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode())
        self.stream = self.connection.makefile("rb")
        status = self.stream.readline()
        if b" 101 " not in status:
            raise AssertionError(status)
        while self.stream.readline().strip():
            pass

    def send(self, text):
        data = text.encode()
        mask = os.urandom(4)
        if len(data) < 126:
            head = struct.pack("!BB", 0x81, 0x80 | len(data))
        elif len(data) < 1 << 16:
            head = struct.pack("!BBH", 0x81, 0x80 | 126, len(data))
        else:
            head = struct.pack("!BBQ", 0x81, 0x80 | 127, len(data))
        self.connection.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

    def receive(self):
        text = b""
        while True:
            first, length = self.stream.read(2)
            length &= 0x7F
            if length == 126:
                length, = struct.unpack("!H", self.stream.read(2))
            elif length == 127:
                length, = struct.unpack("!Q", self.stream.read(8))
            data = self.stream.read(length)
            if first & 0x0F == 8:
                raise ConnectionError("the browser has closed")
            if first & 0x0F <= 1:
                text += data
                if first & 0x80:
                    return text.decode()

    def close(self):
        self.stream.close()
        self.connection.close()


class Browser:
    """A browser with one page."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="lacake-browser-")
        self.process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
             "--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={self.folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        said = pathlib.Path(self.folder) / "DevToolsActivePort"
        port = wait_for(lambda: said.exists() and said.read_text().split("\n")[0], "the browser's port")
        def pages():
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=30) as all_of:
                return [page for page in json.load(all_of) if page["type"] == "page"]
            return None
        self.socket = WebSocket(wait_for(pages, "the browser's page")[0]["webSocketDebuggerUrl"])
        self.n_calls = 0
        self.events = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.n_calls += 1
        self.socket.send(json.dumps({"id": self.n_calls, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.receive())).get("id") != self.n_calls:
            self.events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def evaluate(self, expression):
        """The value of JavaScript, waited for if it is a promise."""
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description", details["text"]))
        return result["result"].get("value")

    def wait(self, expression, what=None):
        """The first value that is true; for an element: that it is there."""
        value = f"Promise.resolve({expression}).then((value) => value instanceof Element ? true : value)"
        return wait_for(lambda: self.evaluate(value), what or expression)

    def open(self, address):
        self.call("Page.navigate", url=address)
        self.wait(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, code=None, number=0, text=None, modifiers=0):
        """Modifiers: 1 Alt, 2 Control, 4 Meta, 8 Shift."""
        key_of = {"key": key, "code": code or key, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key_of, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **key_of)

    def enter(self, modifiers=0):
        self.press("Enter", number=13, text="\r", modifiers=modifiers)

    def click(self, selector):
        """With the mouse, on what can be seen there."""
        box = self.wait(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element?.scrollIntoView({{block: 'nearest'}});
            const box = element?.getBoundingClientRect();
            return box?.width ? [box.x + box.width / 2, box.y + box.height / 2] : null;
        }})()""", f"a {selector} to click on")
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], clickCount=1,
                      button="none" if kind == "mouseMoved" else "left")

    def complaints(self):
        """What went wrong in the page so far: exceptions, and what its Content-Security-Policy kept out."""
        self.evaluate("0")
        thrown = [event["params"]["exceptionDetails"] for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        logged = [event["params"]["entry"] for event in self.events if event["method"] == "Log.entryAdded"]
        return thrown + [entry for entry in logged if entry["source"] in ("security", "javascript", "violation")]

    def close(self):
        with contextlib.suppress(OSError, ConnectionError, ValueError):
            self.call("Browser.close")
        self.socket.close()
        try:
            self.process.wait(timeout=20 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for(call, what):
    for _ in range(1200 * PATIENCE):
        if value := call():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited for {what}")
