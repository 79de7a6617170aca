"""`python -m stowage.cli`: the same as `stowage`, for processes started by a known interpreter."""

from __future__ import annotations

from stowage.cli.app import main

if __name__ == "__main__":
    main()
