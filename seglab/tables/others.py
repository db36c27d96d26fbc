"""What the other sources print: Bakos's Tables 1-4, Caliva's section 3, the poster's Table 2."""

from seglab.tables.bakos import bakos_sheets
from seglab.tables.caliva import caliva_sheet
from seglab.tables.layout import Sheet
from seglab.tables.measured import Measured
from seglab.tables.poster import poster_sheet
from seglab.tables.published import Published


def other_sheets(published: Published, measured: Measured) -> list[Sheet]:
    """Rows and columns are those of the source."""
    return [
        *bakos_sheets(published, measured),
        caliva_sheet(published, measured),
        poster_sheet(published, measured),
    ]
