"""schemathesis: makes requests of the served OpenAPI document, good and bad ones, and holds each answer against it."""

import json
import os
import pathlib
import re
import subprocess
import sys

CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
          "response_headers_conformance,unsupported_method,ignored_auth,allow_header_conformance")
CASES = 2000


def checks(server, folder):
    def begin(name, parameters, count):
        """Runs beside the others."""
        config = os.path.join(folder, f"{name}.toml")
        key = json.dumps(f"Bearer {server.submit_only_key}")
        pathlib.Path(config).write_text(f"headers = {{ Authorization = {key} }}\n{parameters}")
        program = os.path.join(os.path.dirname(sys.executable), "schemathesis")
        command = [program, "--config-file", config, "run", f"http://{server.http}/openapi.json", "--checks", CHECKS,
                   "--phases", "examples,coverage,fuzzing", "--max-examples", str(count), "--seed", "1",
                   "--continue-on-failure", "--generation-database", "none"]
        return subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def the_server_keeps_to_its_document_in_2000_cases():
        # With any organisation nearly all answers are 403 and 404; with the key's own they come from within.
        own = '[parameters]\n"path.org_id" = "acme"\n"path.env" = "dev"\n'
        runs = [begin("own", own, CASES - 400), begin("any", "", 400)]
        made = 0
        for run in runs:
            report, _ = run.communicate(timeout=400)
            counted = re.search(r"(\d+) generated, (\d+) passed", report)
            assert run.returncode == 0 and counted and "ST" not in report.split("SUMMARY")[-1], report
            made += int(counted[1])
        assert made >= CASES, made
        print(f"schemathesis: {made} cases")

    return [the_server_keeps_to_its_document_in_2000_cases]
