"""What an ingress says of media that does not get through, and viewers' tracks of which nothing comes: the first may not be, the second not
without the first. Asked after every test."""

import json

# The log's messages about a track that was announced and does not get through, or not whole.
MESSAGES = ("the source is not as it should be", "not all of the source gets through", "much of the source comes damaged", "this part of the source can't be used")


class Told:
    """What is said from now on in the logs of these stacks."""

    def __init__(self, stacks):
        self.stacks = list(stacks)
        self.read = {p: p.log.stat().st_size for stack in self.stacks for p in stack.programs if p.log.exists()}
        for stack in self.stacks:
            stack.starved = []

    def words(self):
        """The new warnings, as lines of text."""
        found = []
        begun = set()
        for program in (p for stack in self.stacks for p in stack.programs if p.log.exists()):
            with open(program.log, "rb") as log:
                log.seek(self.read.get(program, 0))
                lines = log.read().decode(errors="replace").splitlines()
            begun |= {fields(line).get("resourceID") for line in lines if '"session begins"' in line}
            found += [fields(line) for line in lines if any(m in line for m in MESSAGES)]
        # Sessions that another test has left are not this one's.
        return [" ".join(entry.values()) for entry in found if entry.get("resourceID", None) in begun | {None}]

    def check(self, expected):
        """Fails on words that hold none of the `expected` texts, and on tracks that starved where there are no words at all."""
        words = self.words()
        unexpected = [line for line in words if not any(text in line for text in expected)]
        assert not unexpected, "the ingress says that not all gets through: " + "; ".join(unexpected)
        starved = [text for stack in self.stacks for text in stack.starved]
        assert words or not starved, f"nothing came of a track, and the ingress says nothing: {starved}"


def fields(line):
    """The fields of a line of the log."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {"line": line}
    return {k: v for k, v in (entry | entry.get("fields", {})).items() if isinstance(v, str)}
