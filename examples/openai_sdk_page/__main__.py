"""A page that calls with the OpenAI Agents SDK: python -m examples.openai_sdk_page --gateway URL"""

import argparse
from pathlib import Path

from aiohttp import web

from examples.openai_sdk_page.server import SdkPage


def main() -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="examples.openai_sdk_page", description=__doc__)
    parser.add_argument("--gateway", default="http://127.0.0.1:8080", help="where `pyfastpath up` serves")
    parser.add_argument("--api-key-file", type=Path, help="the gateway's API key, if it wants one")
    parser.add_argument("--port", type=int, default=8090)
    options = parser.parse_args()
    key = options.api_key_file.read_text().strip() if options.api_key_file else ""
    try:
        app = SdkPage(options.gateway, key).app()
    except FileNotFoundError as error:
        parser.error(str(error))
    where = f"http://127.0.0.1:{options.port}"
    web.run_app(
        app,
        host="127.0.0.1",
        port=options.port,
        access_log=None,
        print=lambda _: print(f"page: {where}", flush=True),
    )


if __name__ == "__main__":
    main()
