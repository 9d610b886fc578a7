"""The compose file in deploy/: the same services with the same values, started without containers, so that the file cannot rot. What is
changed is said here: ports, so that nothing of the machine is in the way, and addresses, as all is on loopback."""

import re
from pathlib import Path

import pytest
import yaml

from conftest import run
from rig import KEY, SECRET, Source, Stack, Viewer
from rig.stack import ingress_binary, livekit_binary

COMPOSE = Path(__file__).parent.parent / "deploy" / "compose"
# What a user writes into .env.
VALUES = {"HOST": "127.0.0.1", "LIVEKIT_API_KEY": KEY, "LIVEKIT_API_SECRET": SECRET, "IDLE_SHARE": "0.2"}
# The ports in the file, by the names that the rig has for them.
PORTS = {
    "6379": "redis", "7880": "livekit", "7881": "rtc_tcp", "7882": "rtc_udp", "1935": "rtmp", "8080": "whip", "7888": "health",
    "7889": "prometheus", "7885": "whip_udp",
}


def interpolated(text, values):
    """${NAME}, ${NAME:-default} and ${NAME:?message}, as Compose reads them."""

    def value(found):
        name, _, rest = found.group(1).partition(":")
        if name in values:
            return values[name]
        assert rest.startswith("-"), f"{name} has neither a value nor a default"
        return rest[1:]

    while (more := re.sub(r"\$\{([^{}]*)\}", value, text)) != text:
        text = more
    return text


def services(values=None):
    return yaml.safe_load(interpolated((COMPOSE / "compose.yaml").read_text(), values or VALUES))["services"]


class Composed(Stack):
    """The services of the file."""

    def __init__(self):
        super().__init__()
        self.services = services()
        self.data = self.dir / "data"
        self.data.mkdir()

    def native(self, text):
        """A text of the file with the ports of this stack."""
        ports = re.compile(r"\b(" + "|".join(PORTS) + r")\b")
        return ports.sub(lambda found: str(self.port[PORTS[found.group()]]), text).replace("/data", str(self.data))

    def environment(self, service):
        return {name: self.native(str(value)) for name, value in self.services[service]["environment"].items()}

    def start_redis(self):
        self.redis = self.program("redis", [self.native(word) for word in self.services["redis"]["command"]])
        self.redis.wait_port(self.port["redis"])

    def start_livekit(self):
        config = yaml.safe_load(self.environment("livekit")["LIVEKIT_CONFIG"])
        # There is no external address to be found on loopback.
        config["rtc"].update(use_external_ip=False, node_ip="127.0.0.1", enable_loopback_candidate=True, interfaces={"includes": ["lo"]})
        config["bind_addresses"] = ["127.0.0.1"]
        self.livekit = self.program("livekit", [livekit_binary()], {"LIVEKIT_CONFIG": yaml.safe_dump(config)})
        self.livekit.wait_port(self.port["livekit"])

    def start_ingress(self, wait=True, name="ingress"):
        environment = self.environment("ingress")
        config = yaml.safe_load(environment["INGRESS_CONFIG_BODY"])
        config["rtc_config"].update(use_external_ip=False, node_ip="127.0.0.1", enable_loopback_candidate=True)
        config["bind_address"] = "127.0.0.1"
        # The tests' own load must not be in the way.
        config["cpu_cost"]["rtmp_cpu_cost"] = 0
        self.ingress_environment = environment | {"INGRESS_CONFIG_BODY": yaml.safe_dump(config)}
        self.ingress = self.program(name, [ingress_binary()], self.ingress_environment)
        self.ingress.wait_port(self.port["rtmp"])
        self.wait_available()


@pytest.fixture(scope="module")
def stack():
    for s in run(Composed()):
        yield s.start()


async def test_a_push_through_the_composed_services(stack):
    info = await stack.create("composed")
    assert info.url == f"rtmp://127.0.0.1:{stack.port['rtmp']}/live"
    async with Viewer(stack, "composed") as viewer:
        source = Source(f"{info.url}/{info.stream_key}", stack.dir / "source.log", size=(320, 180)).start()
        try:
            await viewer.wait_numbers(30)
            await viewer.wait_sound()
        finally:
            await source.stop()


def test_the_health_check_of_the_file(stack):
    """As the container tool would: 0 while the service lives."""
    [kind, program, *arguments] = stack.services["ingress"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "ingress")
    check = stack.program("health", [ingress_binary(), *arguments], stack.ingress_environment)
    assert check.wait_exit(10) == 0, check.tail()


def test_every_value_is_explained():
    """.env.example has each variable of the file, and only those."""
    text = (COMPOSE / "compose.yaml").read_text() + (COMPOSE / "Caddyfile").read_text()
    used = set(re.findall(r"\$\{([A-Z_]+)|\{\$([A-Z_]+)\}", text))
    used = {name for pair in used for name in pair if name}
    told = set(re.findall(r"^#? ?([A-Z_]+)=", (COMPOSE / ".env.example").read_text(), re.M))
    assert used == told


def test_a_missing_value_is_named():
    with pytest.raises(AssertionError, match="LIVEKIT_API_SECRET"):
        services({name: value for name, value in VALUES.items() if name != "LIVEKIT_API_SECRET"})


def test_the_ingress_is_confined():
    ingress = services()["ingress"]
    assert ingress["read_only"] and ingress["cap_drop"] == ["ALL"] and ingress["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in ingress
