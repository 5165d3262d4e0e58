"""curl, openssl, Python's ssl and grpcurl over TLS, with certificates that openssl made."""

import json
import os
import socket
import ssl
import subprocess

PATIENCE = 60


def run(*command, input=""):
    return subprocess.run(command, input=input, capture_output=True, text=True, timeout=PATIENCE)


def make_certificate(folder):
    """An authority, and a certificate of it for localhost: paths of the authority, the chain and the key."""
    ca, ca_key, request, cert, key, names = (
        os.path.join(folder, name) for name in ("ca.pem", "ca.key", "request.pem", "tls.crt", "tls.key", "names"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
    made = [run("openssl", "req", "-x509", *curve, "-subj", "/CN=a test", "-days", "2", "-keyout", ca_key, "-out", ca),
            run("openssl", "req", *curve, "-subj", "/CN=localhost", "-keyout", key, "-out", request)]
    with open(names, "w") as file:
        file.write("subjectAltName=DNS:localhost\n")
    made.append(run("openssl", "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-days", "2",
                    "-extfile", names, "-out", cert))
    assert all(done.returncode == 0 for done in made), made
    return ca, cert, key


def checks(server, folder):
    home = os.path.join(folder, "tls")
    os.makedirs(home)
    ca, cert, key = make_certificate(home)
    flags = [f"--{port}-tls-{part}-file={path}" for port in ("http", "grpc") for part, path in (("cert", cert), ("key", key))]
    ours = server.another(os.path.join(home, "server"), *flags)
    http, grpc = (address.split(":")[1] for address in (ours.http, ours.grpc))
    url = f"https://localhost:{http}/acme/dev/v1/message-webhook"

    def curl(sid, *arguments, url=url):
        body = json.dumps({"from_id": "u", "message_sid": sid, "timestamp": 1672531200})
        return run("curl", "--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code} %{http_version}",
                   "--cacert", ca, "--header", f"Authorization: Bearer {ours.key}", "--json", body, *arguments, url)

    def openssl(port, *arguments):
        return run("openssl", "s_client", "-connect", f"localhost:{port}", "-CAfile", ca, "-verify_return_error", *arguments)

    def curl_submits_over_http_2_and_http_1_1():
        for flag, version in (("--http2", "2"), ("--http1.1", "1.1")):
            done = curl(f"curl-{version}", flag)
            assert done.stdout.endswith(f"\n200 {version}"), done

    def tls_1_3_and_1_2_are_taken_and_what_is_older_is_refused():
        for port in (http, grpc):
            for flag, name in (("-tls1_3", "TLSv1.3"), ("-tls1_2", "TLSv1.2")):
                done = openssl(port, flag, "-alpn", "h2")
                assert done.returncode == 0 and name in done.stdout and "ALPN protocol: h2" in done.stdout, done
            for flag in ("-tls1_1", "-tls1"):
                # Without this openssl itself would not speak them.
                done = openssl(port, flag, "-cipher", "ALL:@SECLEVEL=0")
                assert done.returncode != 0 and " alert " in done.stderr and "no peer certificate" in done.stdout, done

    def pythons_ssl_is_refused_with_an_old_version_and_served_with_a_new_one():
        for newest, is_good in ((ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True)):
            context = ssl.create_default_context(cafile=ca)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, newest
            try:
                with socket.create_connection(("localhost", int(http)), timeout=PATIENCE) as plain:
                    with context.wrap_socket(plain, server_hostname="localhost") as stream:
                        assert is_good and stream.version() == "TLSv1.2", stream.version()
            except ssl.SSLError as error:
                assert not is_good, error

    def plain_http_on_the_ports_with_tls_is_no_success():
        for port in (http, grpc):
            for flag in ("--http1.1", "--http2-prior-knowledge"):
                done = curl("plain", flag, url=f"http://localhost:{port}/acme/dev/v1/message-webhook")
                assert not done.stdout.rsplit("\n", 1)[-1].startswith("2"), done
                if flag == "--http1.1":
                    assert "https://" in done.stdout and "\n400 " in done.stdout, done

    def tls_on_a_plain_port_is_told_at_once():
        plain = server.http.split(":")[1]
        done = curl("tls", url=f"https://localhost:{plain}/acme/dev/v1/message-webhook")
        assert done.returncode == 35 and "wrong version number" in done.stderr, done

    def a_client_that_does_not_trust_the_authority_goes_away_and_others_are_served():
        done = run("curl", "--silent", "--show-error", "--max-time", "20", url)
        assert done.returncode == 60, done
        assert curl("after").stdout.endswith("200 2")

    def grpcurl_submits_over_tls():
        body = json.dumps({"from_id": "u", "message_sid": "grpcurl", "timestamp": "2023-01-01T00:00:00Z"})
        done = run("grpcurl", "-cacert", ca, "-H", f"authorization: Bearer {ours.key}", "-d", body,
                   f"localhost:{grpc}", "messagewebhook.v1.MessageService/SubmitMessage")
        assert done.returncode == 0 and '"messageSid": "grpcurl"' in done.stdout, done
        # Who speaks no TLS.
        done = run("grpcurl", "-plaintext", "-max-time", "20", f"localhost:{grpc}", "list")
        assert done.returncode != 0, done

    def the_server_ends_well():
        assert ours.stop() == 0, ours.read_log()

    return [check for name, check in list(locals().items())
            if callable(check) and name not in ("curl", "openssl", "server")]
