"""A Chromium without a screen, driven through its DevTools: wait for what the page shows, drag, take a picture."""

import base64
import json
import shutil
import subprocess
from contextlib import asynccontextmanager

from tornado.httpclient import AsyncHTTPClient
from tornado.websocket import websocket_connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = [
    f"--{flag}"
    for flag in (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync disable-dev-shm-usage remote-debugging-port=0"
    ).split()
]


class Page:
    """The one page of a browser."""

    def __init__(self, socket):
        self._socket, self._asked, self.requests = socket, 0, []

    async def ask(self, method, **parameters):
        """One command of the DevTools and its answer; addresses that the page loads are kept on the way."""
        self._asked += 1
        await self._socket.write_message(
            json.dumps({"id": self._asked, "method": method, "params": parameters})
        )
        while True:
            message = await self._socket.read_message()
            assert message is not None, "the browser has ended"
            answer = json.loads(message)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._asked:
                assert "error" not in answer, answer
                return answer["result"]

    async def value(self, expression):
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, expression):
        """Wait until an expression of JavaScript is true; the timeout of the caller ends this."""
        frames = "new Promise(resolve => requestAnimationFrame(resolve))"
        while not await self.value(
            f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"
        ):
            await self.ask("Runtime.evaluate", expression=frames, awaitPromise=True)

    async def drag(self, start, end):
        """Press the mouse at one place, and release it at another one [pixels]."""
        for kind, (x, y), buttons in (
            ("mouseMoved", start, 0),
            ("mousePressed", start, 1),
            ("mouseMoved", ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), 1),
            ("mouseMoved", end, 1),
            ("mouseReleased", end, 0),
        ):
            button = "none" if kind == "mouseMoved" and not buttons else "left"
            await self.ask(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1
            )

    async def picture(self, path):
        answer = await self.ask("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def browse(url, folder):
    """Open a page in a new browser, whose profile lies in `folder`."""
    command = [
        CHROMIUM,
        *_FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1500,900",
        "about:blank",
    ]
    with open(folder / "chromium.txt", "w") as said:
        browser = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=said, text=True)
    try:
        line = next(line for line in browser.stderr if "DevTools listening on" in line)
        place = line.split("ws://")[1].split("/")[0]
        listed = await AsyncHTTPClient().fetch(f"http://{place}/json/list")
        target = next(each for each in json.loads(listed.body) if each["type"] == "page")
        socket = await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=2**26)
        page = Page(socket)
        await page.ask("Network.enable")
        await page.ask("Page.navigate", url=url)
        yield page
        socket.close()
    finally:
        browser.terminate()
        browser.communicate()
