"""Write what `mirscan doctor` compares with, whenever weights are shipped: python benchmarks/golden.py"""

from __future__ import annotations

import json

from mirscan.commands.doctor import GOLDEN, record


def main() -> None:
    GOLDEN.write_text(json.dumps(record()) + "\n")
    print(f"wrote {GOLDEN}")


if __name__ == "__main__":
    main()
