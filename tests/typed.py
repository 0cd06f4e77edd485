"""What a type checker sees of the public interface: mypy and pyright read this file, nothing runs it."""

from typing import Any, assert_type

import numpy as np

import mirscan

calls = mirscan.scan("g.fa", regions=["chr1"])
assert_type(calls, mirscan.Calls)
assert_type(calls[0], mirscan.Call)
assert_type(calls[0:2], mirscan.Calls)
assert_type(mirscan.score(["ACGU"]), np.ndarray)
assert_type(mirscan.hairpins("ACGU"), list[mirscan.Hairpin])
assert_type(mirscan.evaluate(calls, "t.gff3"), mirscan.Evaluation)
assert_type(mirscan.load_model("mire2e"), mirscan.Model)
for batch in mirscan.windows("g.fa"):
    assert_type(batch, mirscan.Windows)
assert_type(mirscan.scan_genome("g.fa", mirscan.Options()), dict[str, Any])
calls.write("calls.bed")
str(mirscan.evaluate("calls.bed", "t.gff3", megabases=1.0)["all"].average_precision)
