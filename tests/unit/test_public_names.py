import subprocess
import sys

import pytest

import vivavoz


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, vivavoz; print(sorted({'torch', 'numpy', 'cv2', 'av', 'rich'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", vivavoz.__all__)
def test_public_names_are_there(name: str) -> None:
    assert getattr(vivavoz, name) is not None
    assert name in dir(vivavoz)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vivavoz.nothing
