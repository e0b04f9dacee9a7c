"""Runs a function of Python on the Runtime API, as the runtime of Lambda does.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""
import http.client
import importlib
import json
import os
import sys

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])


def call(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body)
    response = api.getresponse()
    return response.headers, response.read()


sys.path.insert(0, os.getcwd())
module, name = os.environ["_HANDLER"].split(".")
handler = getattr(importlib.import_module(module), name)
while True:
    headers, event = call("GET", "invocation/next")
    invocation = "invocation/" + headers["Lambda-Runtime-Aws-Request-Id"]
    try:
        call("POST", invocation + "/response", json.dumps(handler(json.loads(event), None)))
    except Exception as error:  # of any kind: it is the function's response
        call("POST", invocation + "/error", json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}))
