"""No message, traceback or ledger repeats credentials, whatever an object store answers."""

import traceback

import pytest
from support.fakes import Mean, fake_cube

import specxr
from specxr.cubes.secrets import without_secrets
from specxr.cubes.store import open_cube, write_cube
from specxr.runs.run import Run

KEY, TOKEN = "ASIAQWERTYUIOPASDFGH", "FwoGZXIvYXdzEBYaDHqa0token"
BODY = f"""<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code><Message>The key does not exist.</Message>
<AWSAccessKeyId>{KEY}</AWSAccessKeyId><Token-0>{TOKEN}</Token-0><CanonicalRequest>GET
x-amz-security-token:{TOKEN}</CanonicalRequest></Error>"""


def test_what_an_error_says_is_kept_and_what_it_repeats_is_not(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a/secret+key")
    shown = without_secrets(BODY + f" X-Amz-Security-Token={TOKEN}&a=b {KEY} a/secret+key")
    assert "InvalidAccessKeyId" in shown
    assert "The key does not exist." in shown
    assert not any(secret in shown for secret in (KEY, TOKEN, "a/secret+key"))
    assert without_secrets("dr10.zarr: no such bucket") == "dr10.zarr: no such bucket"


@pytest.fixture
def refusing(bucket, s3_server, monkeypatch):
    """A cube in a bucket, and a function that makes the server repeat credentials in what it answers."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    url = f"{bucket}/cube.zarr"
    write_cube(fake_cube(10), url, star_chunk=5)
    answer = s3_server._app

    def refuse(only):
        def app(environ, start_response):
            if only not in environ["PATH_INFO"]:
                return answer(environ, start_response)
            start_response("403 Forbidden", [("Content-Length", str(len(BODY)))])
            return [BODY.encode()]

        monkeypatch.setattr(s3_server, "_app", app)

    return url, refuse


def told(error):
    return "".join(traceback.format_exception(error))


def test_messages_and_tracebacks_have_no_credentials(refusing):
    url, refuse = refusing
    refuse("flux/c/1")
    with pytest.raises(Exception, match="InvalidAccessKeyId") as raised:
        open_cube(url).load()
    assert not any(secret in told(raised.value) for secret in (KEY, TOKEN))


def test_ledgers_have_no_credentials(refusing):
    url, refuse = refusing
    refuse("flux/c/1")
    specxr.run(url, Mean(), name="a")
    (failed,) = [block for block in Run.at(url, "a").read_ledger().blocks if block.error]
    assert "InvalidAccessKeyId" in failed.error
    assert not any(secret in failed.error for secret in (KEY, TOKEN))
