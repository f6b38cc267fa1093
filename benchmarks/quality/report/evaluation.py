"""The sections of a report that show an evaluation: the paper's tables and figures, in its order."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.quality.report import html as page
from benchmarks.quality.report import paper_tables, tables
from benchmarks.quality.report import pictures as report_pictures

COLUMNS = (
    "not restored: the degraded picture. blind: classical, told the type only (dark channel prior; stretch and CLAHE; "
    "unsharp masking; bicubic). before, after, true parameters: the diffusion restorer with the parameters of that "
    "policy, or the true ones. classical, ...: without a prior at those parameters (haze formula; total variation in "
    "the interval; Wiener filter; bicubic). An invalid answer leaves the picture as it is."
)


def lead(summary: Mapping) -> str:
    """What was evaluated, and the verdict."""
    compared = f" compared with {summary['before']['answers']}" if "before" in summary else ""
    what = (
        f"Answers of {summary['answers']}{compared}, on {summary['samples']} {summary['split']} samples of"
        f" {summary['corpus']}."
    )
    if usage := summary.get("endpoint"):
        counts = (f"{name.replace('_', ' ')} {count}" for name, count in usage.items())
        what += f" The endpoint: {', '.join(counts)}."
    verdict = tables.verdict(summary)
    return page.paragraph(what) + (f'<p class="verdict">{html.escape(verdict)}</p>' if verdict else "")


def sections(folder: Path, summary: Mapping) -> list[page.Section]:
    """All sections that the files in `folder` allow."""
    rows = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    made = [
        page.Section("understanding", f"Understanding: {summary['samples']} samples", _understanding(folder, summary)),
        page.Section("values", "Table 1: parameter values", _values(folder, summary)),
        page.Section("decoding", "How a number is read off its posterior", _decoding(summary)),
        page.Section("restoration", "Table 2: restoration", _restoration(summary)),
        page.Section("no-reference", "Table 3: no-reference scores", _no_reference(summary)),
        page.Section("pictures", "Pictures", report_pictures.pictures(folder, rows)),
        page.Section("tolerance", "Figures 6, 10, 11: tolerance to parameter errors", _tolerance(folder, summary)),
        page.Section("bias", "What no-reference scores prefer", _bias(folder, summary)),
        page.Section("bounds", "Propositions 4.1 and 4.2 as numbers", _bounds(summary)),
    ]
    return [section for section in made if section.body]


def _understanding(folder: Path, summary: Mapping) -> str:
    invalid = ", ".join(f"{reason} {count}" for reason, count in summary["invalid"].items())
    parts = [
        page.paragraph("95 % bootstrap intervals over samples. P-Abs and P-Rel: means over keys, lower is better."),
        page.table(tables.understanding(summary, keys=False), "tables/understanding.csv"),
        page.paragraph(f"Without a valid answer: {invalid}.") if invalid else "",
        page.heading("Figure 4: type accuracy, F1 and joint accuracy by type"),
        _figure(folder, "radar", "radar of T-Acc, T-F1 and J-Acc"),
        page.table(paper_tables.by_type(summary), "tables/types.csv"),
        page.heading("Figure 8: confusion of types"),
        _figure(folder, "confusion", "confusion matrix of types"),
        page.heading("Figure 9: keys answered for each true type"),
        page.paragraph("Every key an answer names counts, valid or not; `none` is an answer that names no key."),
        _figure(folder, "keys", "shares of answered keys by true type"),
    ]
    return "".join(parts)


def _values(folder: Path, summary: Mapping) -> str:
    parts = [
        page.paragraph(
            "P-Abs / P-Rel. Where type or keys are wrong, or a value is invalid, the prediction is zero: |truth| and 1."
            " The mean runs over keys. The paper's rows were measured on its own photographs at 256 px (sigma is in"
            " pixels of the picture): they are there for orientation."
        ),
        page.table(paper_tables.penalised(summary), "tables/table1.csv"),
        page.heading("True against answered values"),
        page.paragraph("Orange ticks: true values whose answer had another type or was invalid."),
        _figure(folder, "values", "true against answered value of each key"),
    ]
    return "".join(parts)


def _decoding(summary: Mapping) -> str:
    rows = paper_tables.decoding(summary)
    if not rows:
        return ""
    gains = "; ".join(
        f"{pair}: {tables.with_interval(found[0], found[1:], 4)}" for pair, found in summary["decoding"]["gain"].items()
    )
    return (
        page.paragraph(
            "A policy's tokens are a density on the grid of a key (Proposition 4.1): its likeliest point, median or"
            " mean may be the answer. Coverage: share of truths within their 90 % interval; width: of that interval, in"
            f" the key's unit. Differences of P-Rel with 95 % intervals, in pairs: {gains}."
        )
        + page.table(rows, "tables/decoding.csv")
    )


def _restoration(summary: Mapping) -> str:
    if not summary.get("restoration"):
        return ""
    lpips = "lpips" in summary["restoration"]["all"]["not restored"]
    names = f"PSNR in dB with 95 % interval, SSIM{', LPIPS' if lpips else ''}."
    missing = "" if lpips else " LPIPS is left out: its weights are not here (docs/scorers.md)."
    return (
        page.paragraph(names + missing)
        + page.table(tables.restoration(summary), "tables/table2.csv")
        + page.paragraph(COLUMNS)
    )


def _no_reference(summary: Mapping) -> str:
    rows = paper_tables.no_reference(summary)
    if not rows:
        return ""
    return page.paragraph(
        "Mean over the first samples of each type; the arrow is the better direction. `clean` is what the truth itself"
        " scores: a restoration that scores better than it has found a weakness of the score."
    ) + page.table(rows, "tables/table3.csv")


def _tolerance(folder: Path, summary: Mapping) -> str:
    rows = paper_tables.tolerance(summary)
    if not rows:
        return ""
    figures = [("6", "psnr"), ("10", "ssim"), ("11", "lpips")]
    return (
        page.paragraph(
            "Correlation of |error| of a parameter with the quality of the restoration, over valid answers of the right"
            " type: r with its 95 % interval is Pearson's, ρ Spearman's. The paper's is the first of each pair. It"
            " mixes the error with how hard a photograph is; `change` subtracts the same sample's restoration at true"
            " parameters. Types with two keys have both errors at once."
        )
        + page.table(rows, "tables/tolerance.csv")
        + "".join(
            page.heading(f"Figure {number}: {measure.upper()}") + _figure(folder, f"tolerance_{measure}", measure)
            for number, measure in figures
            if (folder / "figures" / f"tolerance_{measure}.svg").is_file()
        )
    )


def _bias(folder: Path, summary: Mapping) -> str:
    rows = paper_tables.bias(summary)
    if not rows:
        return ""
    counts = {cell["samples"] for cell in next(iter(summary["bias"].values())).values()}
    return (
        page.paragraph(
            f"One parameter of a known truth is multiplied by .6 to 1.6, the picture is restored ({max(counts)} samples"
            " a type) and scored. A cell shows the factor the score likes best on average, and in how many comparisons"
            " the true value scores better than a wrong one (50 % is a coin). PSNR knows the truth."
        )
        + page.table(rows, "tables/bias.csv")
        + page.paragraph("Standardised score, up is better. Green: the optimum is the truth. Orange cross: it is not.")
        + _figure(folder, "bias", "scores over the factor of a parameter")
    )


def _bounds(summary: Mapping) -> str:
    source = (
        "measured from the policy's densities over value tokens"
        if any(c["measured"] is not None for cells in summary["bounds"]["likelihood"].values() for c in cells.values())
        else "that of Gaussians around the answers, as wide as the residuals"
    )
    return "".join(
        [
            page.paragraph(
                "Answers and truths are read on grids of Δ = .1, .05 and .01, a key's bin being its own step times"
                " Δ/.01 (scale keeps its step 1). A corpus is certain of its truth, so the excess risk ε is the cross"
                f" entropy of the answer: for values {source}; for type and keys that of a calibrated model which errs"
                " as often as measured."
            ),
            page.heading("Proposition 4.2, Equation 5: classification error ≤ √(2ε)"),
            page.paragraph("ε in nats of the worst key. A bound above 1 says nothing."),
            page.table(paper_tables.classification_bounds(summary), "tables/classification_bounds.csv"),
            page.heading("Proposition 4.2, Equation 6: regression MSE ≤ Δ²/4 + D²√(2ε)"),
            page.paragraph(
                "A wrong type is a zero prediction, so D spans the key's range and 0. A bound above D² says nothing."
                " The proof takes a wrong bin for a wrong type; the column before the bound has the share of wrong bins"
                " that was measured in place of √(2ε)."
            ),
            page.table(paper_tables.regression_bounds(summary), "tables/regression_bounds.csv"),
            page.heading("Proposition 4.1, Equation 4: token loss ≈ regression loss + C"),
            page.paragraph(
                "Over answers of the right type, nats a number. Gaussian -log P: the mass that a Gaussian around the"
                " answer, as wide as the residuals, puts on the true bin; squared error + C: Equation 4; gap: their"
                " difference, 0 for a fine grid. Excess kurtosis is 0 where residuals are Gaussian, as assumed."
            ),
            page.table(paper_tables.likelihoods(summary), "tables/likelihood.csv"),
        ]
    )


def _figure(folder: Path, name: str, title: str) -> str:
    file = folder / "figures" / f"{name}.svg"
    return page.figure(file.read_text(), title, f"figures/{name}.csv") if file.is_file() else ""
