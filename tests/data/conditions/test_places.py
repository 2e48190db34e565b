"""Tables of coordinates, distances, and mistakes in tables."""

import pytest

from data.conditions.places import Coordinates, Place, kilometres, read_places
from data.errors import InputError


def test_a_place_is_found_by_any_of_its_names_and_told_apart_by_country(tmp_path):
    path = tmp_path / "places.csv"
    path.write_text(
        "place,country,latitude,longitude,people\nZürich,CH,47.37,8.54,1\nCambridge,GB,52.21,0.12,2\n"
        "Cambridge,United States,42.37,-71.11,3\nLeeds,,53.80,-1.55,4\n",
        encoding="utf-8",
    )
    places = read_places(str(path))
    assert places.find(Place(("Altstetten", "ZURICH"), "CH")) == Coordinates(47.37, 8.54)
    assert places.find(Place(("Cambridge",), "US")) == Coordinates(42.37, -71.11)
    assert places.find(Place(("Cambridge",), None)) is None, "two places: nobody can tell"
    assert places.find(Place(("Leeds",), "GB")) == Coordinates(53.80, -1.55), "a row without a country fits any"
    assert places.find(Place(("Zurich",), "US")) is None


def test_distances_are_great_circles():
    london, paris = Coordinates(51.5074, -0.1278), Coordinates(48.8566, 2.3522)
    assert kilometres(london, paris) == pytest.approx(343.6, abs=0.5)
    assert kilometres(Coordinates(0, 179.5), Coordinates(0, -179.5)) == pytest.approx(111.2, abs=0.1)
    assert kilometres(london, london) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("place,latitude\nLeeds,53\n", "no column longitude"),
        ("place,country,latitude,longitude\nLeeds,GB,north,0\n", "Line 2"),
        ("place,country,latitude,longitude\nLeeds,GB,53,\n", "Line 2"),
        ("place,country,latitude,longitude\nLeeds,GB,530,0\n", "no place on the earth"),
        (None, "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path, content, message):
    path = tmp_path / "places.csv"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_places(str(path))
