"""The table of nuisances of an evaluation (`benchmarks.quality.analysis.nuisances`)."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.quality.report.table import Table, flatten, with_interval


def table(summary: Mapping) -> Table | None:
    """Shows what is left under each nuisance, where that was measured."""
    rows = [["nuisance", "J-Acc", "P-Rel", "restored, dB", "made worse", "clean left", "clean, worst dB"]]
    for name, cell in summary.get("nuisances", {}).items():
        clean = cell.get("clean")
        rows.append(
            [
                name,
                with_interval(cell["j_acc"][0], cell["j_acc"][1:]),
                f"{cell['p_rel']:.3f}",
                with_interval(cell["gain"][0], cell["gain"][1:], 2, "+") if "gain" in cell else "",
                f"{cell['worse']:.3f}" if "worse" in cell else "",
                f"{1 - clean['changed']:.3f}" if clean else "",
                f"{clean['worst']:.1f}" if clean else "",
            ]
        )
    records = flatten(summary.get("nuisances", {}), "nuisance")
    return Table.of("Nuisances that no answer names", rows, records) if records else None
