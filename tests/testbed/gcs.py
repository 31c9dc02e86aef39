"""A stand-in for Google Cloud Storage: the few requests of its XML API that a backend makes, in memory.

No server of Google's can be run outside their cloud. This one shows that the client asks for the right things and understands
the answers that Google documents; it cannot show what Google does. It is strict where that finds mistakes: a request
without the bearer token is refused, a precondition is checked under the lock, a page of a listing is short.

usage: gcs.py HOST PORT BUCKET TOKEN
"""

import base64
import hashlib
import itertools
import sys
import threading
from bisect import bisect_right
from datetime import datetime, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

PAGE = 250
NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"


class Stored:
    """One object as it was put."""

    def __init__(self, body, generation):
        self.body = body
        self.generation = generation
        self.etag = '"' + hashlib.md5(body).hexdigest() + '"'
        self.time = datetime.now(timezone.utc)

    def headers(self):
        digest = base64.b64encode(hashlib.md5(self.body).digest()).decode()
        return {
            "ETag": self.etag,
            "Last-Modified": format_datetime(self.time, usegmt=True),
            "x-goog-generation": str(self.generation),
            "x-goog-hash": f"md5={digest}",
        }


class Refused(Exception):
    """An answer that is an error: its status and Google's word for it."""

    def __init__(self, status, code):
        super().__init__(code)
        self.status = status
        self.code = code


class Bucket:
    """Objects by name."""

    def __init__(self):
        self.lock = threading.Lock()
        self.objects = {}
        self.generations = itertools.count(1_700_000_000_000_000)

    def put(self, name, body, wanted_generation):
        with self.lock:
            there = self.objects.get(name)
            if wanted_generation is not None and int(wanted_generation) != (there.generation if there else 0):
                raise Refused(412, "PreconditionFailed")
            self.objects[name] = Stored(body, next(self.generations))
            return self.objects[name]

    def get(self, name):
        with self.lock:
            if name not in self.objects:
                raise Refused(404, "NoSuchKey")
            return self.objects[name]

    def delete(self, name):
        with self.lock:
            if self.objects.pop(name, None) is None:
                raise Refused(404, "NoSuchKey")

    def page(self, prefix, after):
        """Up to PAGE objects in the order of their names, and the name to go on after."""
        with self.lock:
            names = sorted(self.objects)
            rest = names[bisect_right(names, after):] if after else names
            found = [(name, self.objects[name]) for name in rest if name.startswith(prefix)]
        return found[:PAGE], found[PAGE - 1][0] if len(found) > PAGE else None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Nothing: a test run makes thousands of requests."""

    def answer(self, status, body=b"", headers=None, length=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_request(self):
        # Before anything is refused, or the next request of the connection would begin in the middle of this one.
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.headers.get("Authorization") != f"Bearer {self.server.token}":
                raise Refused(401, "AuthenticationRequired")
            url = urlsplit(self.path)
            bucket, _, name = unquote(url.path).removeprefix("/").partition("/")
            if bucket != self.server.name:
                raise Refused(404, "NoSuchBucket")
            if name:
                self.object(name, body)
            else:
                self.listing({key: values[0] for key, values in parse_qs(url.query).items()})
        except Refused as refused:
            text = f"<?xml version='1.0'?><Error><Code>{refused.code}</Code></Error>"
            self.answer(refused.status, text.encode(), {"Content-Type": "application/xml"})

    do_GET = do_HEAD = do_PUT = do_DELETE = handle_request

    def object(self, name, body):
        bucket = self.server.bucket
        if self.command == "PUT":
            stored = bucket.put(name, body, self.headers.get("x-goog-if-generation-match"))
            self.answer(200, headers=stored.headers())
        elif self.command == "DELETE":
            bucket.delete(name)
            self.answer(204)
        else:
            self.content(bucket.get(name))

    def content(self, stored):
        size = len(stored.body)
        wanted = self.headers.get("Range")
        if wanted is None or self.command == "HEAD":
            return self.answer(200, stored.body, stored.headers(), length=size)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        if not first:
            raise Refused(501, "SuffixRangesAreNotNeeded")
        start, end = int(first), min(int(last or size - 1), size - 1)
        if start >= size:
            raise Refused(416, "InvalidRange")
        headers = stored.headers() | {"Content-Range": f"bytes {start}-{end}/{size}"}
        return self.answer(206, stored.body[start : end + 1], headers)

    def listing(self, query):
        if self.command != "GET" or query.get("list-type") != "2":
            raise Refused(400, "InvalidArgument")
        found, more = self.server.bucket.page(query.get("prefix", ""), query.get("continuation-token", ""))
        root = ElementTree.Element("ListBucketResult", xmlns=NAMESPACE)
        ElementTree.SubElement(root, "Name").text = self.server.name
        ElementTree.SubElement(root, "IsTruncated").text = "true" if more else "false"
        if more:
            ElementTree.SubElement(root, "NextContinuationToken").text = more
        for name, stored in found:
            entry = ElementTree.SubElement(root, "Contents")
            ElementTree.SubElement(entry, "Key").text = name
            ElementTree.SubElement(entry, "Generation").text = str(stored.generation)
            ElementTree.SubElement(entry, "LastModified").text = stored.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            ElementTree.SubElement(entry, "ETag").text = stored.etag
            ElementTree.SubElement(entry, "Size").text = str(len(stored.body))
        self.answer(200, ElementTree.tostring(root, xml_declaration=True), {"Content-Type": "application/xml"})


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True


def main():
    host, port, name, token = sys.argv[1:]
    server = Server((host, int(port)), Handler)
    server.name, server.token, server.bucket = name, token, Bucket()
    server.serve_forever()


if __name__ == "__main__":
    main()
