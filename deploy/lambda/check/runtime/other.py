#!/usr/bin/python3
"""An extension that receives all events, as those of monitoring products do."""
import http.client
import json
import os

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
api.request("POST", "/2020-01-01/extension/register", json.dumps({"events": ["INVOKE", "SHUTDOWN"]}),
            {"Lambda-Extension-Name": os.path.basename(__file__)})
response = api.getresponse()
response.read()
identifier = response.headers["Lambda-Extension-Identifier"]
event = ""
while event != "SHUTDOWN":
    api.request("GET", "/2020-01-01/extension/event/next", headers={"Lambda-Extension-Identifier": identifier})
    event = json.load(api.getresponse())["eventType"]
    print("other extension:", event, flush=True)
