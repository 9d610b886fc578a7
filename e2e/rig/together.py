"""Several things to be seen at the same time, as each takes a while and little else."""

import asyncio


async def at_once(*tests):
    """Waits for all of them, and gives what they give; says of each that failed how."""
    results = await asyncio.gather(*tests, return_exceptions=True)
    failed = [repr(r) for r in results if isinstance(r, BaseException)]
    assert not failed, "\n".join(failed)
    return results
