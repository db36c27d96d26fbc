"""Every table of every source, and those of any other data set that has runs."""

from seglab.tables.convergence import convergence_sheet_of, convergence_sheets
from seglab.tables.crossval import crossval_sheets
from seglab.tables.grid import grid_sheets, grid_sheets_of, wins_sheet, wins_sheet_of
from seglab.tables.layout import Sheet
from seglab.tables.measured import Measured
from seglab.tables.others import other_sheets
from seglab.tables.published import DATASETS, Published
from seglab.tables.table31 import Computed, table31_sheet


def every_sheet(
    published: Published, measured: Measured, computed: Computed, threshold: float | None
) -> list[Sheet]:
    """All sheets; `threshold` is the convergence target of data sets without a published one."""
    grid = grid_sheets(published, measured)
    sheets = [
        table31_sheet(published, computed),
        *grid,
        wins_sheet(published, grid, measured),
        *convergence_sheets(published, measured),
        *crossval_sheets(published, measured),
        *other_sheets(published, measured),
    ]
    for dataset in measured.datasets():
        if dataset in DATASETS:
            continue
        grid = grid_sheets_of(dataset, measured)
        if grid:
            sheets += [
                *grid,
                wins_sheet_of(dataset, grid, measured),
                convergence_sheet_of(dataset, measured, threshold),
            ]
    return sheets
