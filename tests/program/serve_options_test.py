"""Every option of `lacake serve` does something: options_test.py, with a server to look at."""

import http.client
import json
import re
import signal
import socket
import time

import options_test
from options_test import COMMON, DRY_OPTIONS, OWN, settled, settled_text
from program import PATIENCE, start

options_test.BASE["serve"] = ["--port", "0", "-n", "6", "-s", "7", "--temp", "1.2"]
OWN["serve"] = {
    "host": ["--host", "127.0.0.2"],
    "port": ["--port", "{port}"],
    "alias": ["-a", "somebody"],
    "api_keys": ["--api-key", "secret"],
    "api_key_file": ["--api-key-file", "{short}"],
    "ssl_key_file": ["--ssl-key-file", "{short}"],  # refused: no certificate; serve_tls_test.py has both
    "ssl_cert_file": ["--ssl-cert-file", "{short}"],
    "log_requests": ["--log-requests"],
    "admin_key": ["--admin-key", "secret"],
    "log_file": (["--log-requests"], ["--log-file", "{log}"]),
    "log_prompts": (["--log-requests"], ["--log-prompts"]),
    "cors": ["--cors", "*"],
    "no_ui": ["--no-ui"],
    "body_size": ["--body-size", "30B"],
    "kv_memory": ["--kv-memory", "1GiB"],
    "checkpoints": ["--checkpoints", "12345B"],
    "store": ["--store", "{store}"],
    "store_size": (["--store", "{store}"], ["--store-size", "1GiB"]),
    "ignore_eos": ["--ignore-eos"],
    "predict": ["-n", "3"],
    "drain_time": ["--drain-time", "7"],
    **{name: COMMON[name][1] if isinstance(COMMON[name], tuple) else COMMON[name][-2:] for name in DRY_OPTIONS},
}
ASKED = json.dumps({"messages": [{"role": "user", "content": "What is 2+2? Answer with one number."}], "logprobs": True})


class ServeOptions(options_test.Everything):
    # Of the other commands.
    for name in [name for name in dir(options_test.Everything) if name.startswith("test_")]:
        locals()[name] = None

    def setUp(self):
        super().setUp()
        self.places["store"] = self.folder / "store"
        self.places["log"] = self.folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.places["port"] = str(free.getsockname()[1])

    def served(self, arguments):
        answers, log, address = [], "", None
        with start(*arguments) as process:
            if "-q" in arguments or "--quiet" in arguments:  # says nothing, and listens all the same
                time.sleep(2 * PATIENCE)
                process.send_signal(signal.SIGTERM)
            while address is None and (line := process.stderr.readline().decode()):
                log += line
                address = re.search(r"listening on http://([\d.]+):(\d+)", line)
            for method, path, body in (("POST", "/v1/chat/completions", ASKED), ("GET", "/props", None),
                                       ("GET", "/v1/models", None)) if address else ():
                connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=60 * PATIENCE)
                connection.request(method, path, body)
                response = connection.getresponse()
                content = response.read()
                headers = sorted((k, v) for k, v in response.getheaders() if k not in ("Content-Length", "Date", "X-Request-Id", "Request-Id"))
                answers.append((response.status, headers, self.without_what_changes(json.loads(content))))
                connection.close()
            if address:
                process.send_signal(signal.SIGTERM)
            log += process.stderr.read().decode()
            process.stdout.close()
        port = address[2] if address and str(self.places["port"]) != address[2] else ""
        log = log.replace(f":{port}", ":PORT") if port else log
        log = re.sub(r'"(time|id)":"[^"]*"|"(duration_ms|queue_ms|bytes)":[\d.]+', "", log)
        return {"status": process.returncode, "answers": answers, "stderr": settled_text(log.encode())}

    @staticmethod
    def without_what_changes(answer):
        for name in ("id", "created", "timings"):
            answer.pop(name, None)
        for model in answer.get("data", []):
            model.pop("created")
        return settled(answer)

    def test_serve(self):
        self.all_of("serve")
