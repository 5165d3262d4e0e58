"""README's section on many replicas, as a reader pastes it: block after block into one shell, on the cluster that
CQL_NODES names, in a keyspace of its own, which is dropped again.
"""

import json
import os
import pathlib
import subprocess
import time

from cql import drop_keyspace
from documents_client import OF_REPLICAS, ROOT, blocks_of
from run import free_ports

# What README's own ring listens on.
NODES = "127.0.0.1:9042,127.0.0.2:9042,127.0.0.3:9042"


def checks(server, folder):
    def a_message_to_one_replica_is_a_duplicate_to_the_other_and_each_feed_has_it_once():
        nodes = os.environ.get("CQL_NODES")
        assert nodes, "set CQL_NODES: scripts/ring up 3, then CQL_NODES=$(scripts/ring nodes)"
        section = OF_REPLICAS.search((ROOT / "README.md").read_text()).group(1)
        script = "\n".join(blocks_of(section, "sh"))
        assert NODES in script and script.count("scripts/ring ") == 2, script
        # The cluster is there already, and stays.
        script = script.replace("scripts/ring ", ": ").replace(NODES, nodes)
        for default, port in zip((8080, 8081, 9090, 9091, 9464, 9465), free_ports(6)):
            script = script.replace(f"127.0.0.1:{default}", f"127.0.0.1:{port}")
            # Where README leaves it at the default.
            name = {8080: "HTTP", 9090: "GRPC", 9464: "ADMIN"}.get(default)
            if name:
                script = f"export MESSAGE_WEBHOOK_{name}_ADDR=127.0.0.1:{port}\n" + script
        keyspace = f"test_readme_{os.getpid()}_{int(time.time())}"
        environment = {
            "PATH": os.pathsep.join([os.path.dirname(server.program), os.environ["PATH"]]), "HOME": folder,
            "MESSAGE_WEBHOOK_SCYLLA_KEYSPACE": keyspace,
        }
        work = pathlib.Path(folder, "replicas")
        work.mkdir()
        try:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=work, env=environment,
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        finally:
            drop_keyspace(nodes, keyspace)
        assert done.returncode == 0, done
        answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        said = [answer["message"] for answer in answers]
        assert said == ["Message received and processed", "Already processed"], done
        assert answers[0]["accepted_at"] == answers[1]["accepted_at"], answers
        # One line of each tail; nothing else that is printed names the message.
        shown = [line for line in done.stdout.splitlines() if "msg_xyz789" in line and not line.startswith("{")]
        assert len(shown) == 2 and "Hello" in shown[0] and "Hello" in shown[1], done

    return [a_message_to_one_replica_is_a_duplicate_to_the_other_and_each_feed_has_it_once]
