"""What the tests of the pages share: a notebook's cells run in this process, and what they show."""

import ast

import nbformat
import pytest

from reidlib.book import notebooks


@pytest.fixture(scope="session")
def shown_by():
    """A function from a notebook's slug, with parameters, to the pieces and figures that its cells show."""

    def run(slug: str, **given):
        said, names = [], {}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("IPython.display.display", lambda *things, **_: said.extend(things))
            for cell in nbformat.read(notebooks.template(slug), as_version=4).cells:
                if cell.cell_type != "code":
                    continue
                body = ast.parse(cell.source).body
                last = body.pop() if isinstance(body[-1], ast.Expr) else None
                exec(compile(ast.Module(body, []), slug, "exec"), names)
                if last:
                    value = eval(compile(ast.Expression(last.value), slug, "eval"), names)
                    said += [value] if value is not None else []
                if "parameters" in cell.metadata.get("tags", []):
                    assert set(given) <= set(names)
                    names |= given
        return said

    return run
