"""A chat server with one answer, for the prompt upsampler's end-to-end test.

    fake_chat_server.py REQUESTS ANSWER     prints its port, then appends every request to the file REQUESTS
"""

import http.server
import json
import sys

requests_path, answer = sys.argv[1], sys.argv[2]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        record = {"path": self.path, "authorization": self.headers.get("Authorization"), "body": json.loads(body)}
        with open(requests_path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
        reply = json.dumps({"id": "chat-1", "object": "chat.completion", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *arguments):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
