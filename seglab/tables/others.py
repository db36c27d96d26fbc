"""What the other sources print: Bakos's Tables 1-4, Caliva's section 3, the poster's Table 2.

Rows and columns are those of the source. Measured is what counts can give, IoU and Dice, of runs
whose data set, network and loss have the names of the CSV files, or those of `OURS`.
"""

from seglab.tables.layout import Cell, Sheet
from seglab.tables.measured import Measured, noise
from seglab.tables.published import Published, printed
from seglab.tables.verdict import PERCENT, SCORE

BAKOS_COLUMNS = {
    "loss": "loss",
    "val_loss": "val loss",
    "ba": "BA",
    "auc": "AUC",
    "ap": "AP",
    "dsc": "DSC",
    "jaccard": "Jaccard",
    "mahd": "MAHD",
}
BAKOS_ROWS = {
    "unet": "UNet",
    "attention_unet": "AttUNet",
    "residual_attention_unet": "ResAttUNet",
    "jaccard": "Jaccard",
    "lovasz": "Lovasz",
    "boundary": "Boundary",
    "tversky": "Tversky",
    "weighted_bce": "BCE",
    "boundary+tversky_constant": "Combined (constant)",
    "boundary+tversky_linear": "Combined (linear)",
    "boundary+weighted_bce_constant": "Combined (constant)",
}
BAKOS = {  # table: title, columns, what a row is
    "1": ("three networks on COVID-QU-Ex", list(BAKOS_COLUMNS), "model"),
    "2": ("Lovasz against Jaccard on COVID-QU-Ex", ["auc", "dsc", "jaccard", "ap"], "loss"),
    "3": ("Tversky and Boundary on Koranyi", ["mahd", "dsc", "jaccard", "ap"], "loss"),
    "4": ("BCE and Boundary on Koranyi", ["mahd", "dsc", "jaccard", "ap"], "loss"),
}
BAKOS_SOURCE = {
    "1": "Validation; aggregation not stated. Mean over five runs of the median of the last five "
    "epochs; in brackets the standard deviation over the runs.",
    "2": "Validation, last epoch; aggregation not stated. Mean over five runs, no plus-minus.",
    "3": "Validation, mean of the last three epochs; aggregation not stated. One run, of pure "
    "Tversky five; no plus-minus.",
    "4": "Validation, mean of the last three epochs; aggregation not stated. One run, of pure BCE "
    "five; no plus-minus.",
}
LOWER = ("loss", "val_loss", "mahd")
OF_COUNTS = {"dsc": "dice", "jaccard": "iou", "iou_score": "iou"}
CALIVA = {
    "distance_map_penalised_ce": "Distance map penalised CE",
    "soft_dice": "Dice",
    "confident_prediction_penalty": "Confident prediction penalty",
    "focal": "Focal",
}
CALIVA_METRICS = {"b_dsc": "B-DSC (%)", "g_dsc": "G-DSC (%)"}
POSTER = {
    "dice_bce": "Dice-BCE Loss",
    "jaccard": "Jaccard Loss",
    "focal": "Focal Loss",
    "tversky": "Tversky Loss",
    "focal_tversky": "Focal-Tversky Loss",
}
POSTER_RUNS = {"focal": "focal_alpha"}
POSTER_METRICS = {"iou_score": "IoU Score", "binary_accuracy": "Binary Accuracy"}
OURS = {  # their names in configs, where those differ
    "covid_qu_ex": "covid_qu_ex_infection",
    "unet": "vanilla_unet",
    "jaccard": "iou",
    "chest_xray": "cxr",
}
COMMANDS = {
    "1": "`python train.py -m experiment=bakos_table1 dataset.root=...`",
    "2": "`python train.py -m experiment=bakos_table2 dataset.root=...`",
}
NO_COMMAND = "no data set of this source is part of seglab yet, so no command makes them."


def other_sheets(published: Published, measured: Measured) -> list[Sheet]:
    """Bakos's four, Caliva's, the poster's."""
    bakos = [_bakos(table, published, measured) for table in BAKOS]
    return [*bakos, _caliva(published, measured), _poster(published, measured)]


def _bakos(table: str, published: Published, measured: Measured) -> Sheet:
    title, metrics, key = BAKOS[table]
    lines = published["medical_thesis"]
    lines = lines[lines["table"] == table]
    strings = printed(lines, key, "metric")
    rows, cells = {}, {}
    for name in dict.fromkeys(lines[key]):
        rows[name] = BAKOS_ROWS[name]
        if table == "1":
            rows[f"{name}:std"] = ""
        for metric in metrics:
            line = strings[name, metric]
            values = _runs(measured, line["dataset"], line["model"], line["loss"], metric, "val")
            cells[name, metric] = _mean(line["value"], values, contest=metric, key=metric)
            if table == "1":
                cells[f"{name}:std", metric] = Cell(
                    published=line["std"], measured=noise(values), wrap="({})"
                )
    return Sheet(
        name=f"medical_{table}",
        title=f"Bakos 2022, Table {table}: {title}, validation.",
        corner="",
        rows=rows,
        columns={metric: BAKOS_COLUMNS[metric] for metric in metrics},
        cells=cells,
        source=BAKOS_SOURCE[table],
        facts=_facts(measured, lines["dataset"].iloc[0], "val"),
        command=COMMANDS.get(table, NO_COMMAND),
    )


def _caliva(published: Published, measured: Measured) -> Sheet:
    strings = printed(published["distance_map_penalty"], "loss", "metric")
    cells = {}
    for loss in CALIVA:
        for metric in CALIVA_METRICS:
            for what in ("mean", "std"):
                cells[loss, f"{metric}:{what}"] = Cell(
                    published=strings[loss, metric][what],
                    kind=PERCENT,
                    contest=metric if what == "mean" else "",
                )
    return Sheet(
        name="caliva",
        title="Caliva et al. 2019, section 3: boundary (B-DSC) and global Dice (G-DSC), knee MRI. "
        "Printed as mean +- standard deviation, in running text.",
        corner="Loss",
        rows=CALIVA,
        columns={
            f"{metric}:{what}": {"mean": "mean", "std": "+-"}[what]
            for metric in CALIVA_METRICS
            for what in ("mean", "std")
        },
        cells=cells,
        heads=[[(text, 2) for text in CALIVA_METRICS.values()]],
        source="Aggregation and seeds are not stated; test patients; +- is not explained.",
        facts=_facts(measured, "knee_mri", "test"),
        command=NO_COMMAND,
    )


def _poster(published: Published, measured: Measured) -> Sheet:
    strings = printed(published["cxr_poster"], "loss", "metric")
    cells = {
        (loss, metric): _mean(
            strings[loss, metric]["value"],
            _runs(
                measured, "chest_xray", "poster_unet", POSTER_RUNS.get(loss, loss), metric, "test"
            ),
            contest=metric,
            key=metric,
        )
        for loss in POSTER
        for metric in POSTER_METRICS
    }
    return Sheet(
        name="poster_2",
        title="Dubey's chest X-ray poster, Table 2.",
        corner="Loss Functions",
        rows=POSTER,
        columns=POSTER_METRICS,
        cells=cells,
        heads=[[("Evaluation Metrics", len(POSTER_METRICS))]],
        source="Aggregation, split and seeds are not stated; no plus-minus.",
        facts=_facts(measured, "chest_xray", "test"),
        command="`python train.py -m experiment=cxr_poster dataset.root=...`",
    )


def _runs(
    measured: Measured, dataset: str, model: str, loss: str, metric: str, split: str
) -> list[float]:
    """The values of all runs that fit, whatever their encoder and seed."""
    if metric not in OF_COUNTS:
        return []
    dataset, model, loss = (OURS.get(name, name) for name in (dataset, model, loss))
    names = [
        name
        for name in measured.scores
        if (name.dataset, name.model, name.loss, name.fold) == (dataset, model, loss, None)
    ]
    values = [measured.score(name, split, OF_COUNTS[metric]) for name in names]
    return [value for value in values if value is not None]


def _mean(text: str, values: list[float], contest: str, key: str) -> Cell:
    return Cell(
        published=text,
        measured=sum(values) / len(values) if values else None,
        noise=noise(values),
        kind=SCORE,
        contest=contest,
        lower=key in LOWER,
    )


def _facts(measured: Measured, dataset: str, split: str) -> list[str]:
    seeds = measured.seeds(OURS.get(dataset, dataset))
    listed = ", ".join(map(str, seeds)) or "none"
    return [
        measured.convention.sentence(),
        f"Split: {split}. Seeds run on {dataset}: {len(seeds)} ({listed}); cells are means over "
        "them, the standard deviation has ddof 1.",
    ]
