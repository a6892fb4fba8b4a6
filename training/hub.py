"""The Hugging Face hub, asked in a way that fails at once where there is no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def hub_problem() -> str | None:
    """Why the hub cannot be asked, or None; answers within seconds.

    The hub's own libraries try for up to a minute before they say that there is no network.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception as error:  # the session's library, and so its errors, differ by version
        return f"{constants.ENDPOINT} cannot be reached ({error})"
    return None


def hub_file(repo: str, names: Sequence[str]) -> Path:
    """The first of a repository's files ``names`` that there is: from the local cache, else loaded.

    Raises:
        OSError: none is in the cache, and none can be loaded.
    """
    from huggingface_hub import errors, hf_hub_download

    for name in names:
        try:
            return Path(hf_hub_download(repo, name, local_files_only=True))
        except errors.LocalEntryNotFoundError:
            continue
    problem = hub_problem()
    if problem:
        raise OSError(f"{problem}, and the local cache does not hold {repo}")
    for name in names:
        try:
            return Path(hf_hub_download(repo, name))
        except errors.EntryNotFoundError:
            continue
        except (errors.HfHubHTTPError, OSError, ValueError) as error:
            raise OSError(f"{repo} cannot be loaded: {error}") from error
    raise OSError(f"{repo} has none of the files {', '.join(names)}")
