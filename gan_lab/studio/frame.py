"""What all pages share: their head with the way to the others, their style, and small pieces."""

from nicegui import ui

PAGES = (("Train", "/", "school"), ("Play", "/play", "casino"), ("Compare", "/compare", "bar_chart"))

STYLE = """
body { background: #f4f5f7; color: #1f2937; }
.plane { width: 100%; max-width: 420px; aspect-ratio: 1; border: 1px solid #d1d5db; border-radius: 6px;
         display: block; background: #fff; }
.card { background: #fff; border-radius: 10px; box-shadow: 0 1px 3px rgb(0 0 0 / 12%); padding: 12px 14px; }
.small { font-size: 12px; color: #6b7280; line-height: 1.35; }
.command { font-family: monospace; font-size: 12.5px; white-space: pre-wrap; overflow-wrap: anywhere;
           background: #f3f4f6; border-radius: 6px; padding: 6px 8px; }
.said { white-space: pre-wrap; overflow-wrap: anywhere; font-family: monospace; font-size: 12px; }
.problem { white-space: pre-wrap; background: #fef2f2; color: #991b1b; border: 1px solid #fecaca; border-radius: 6px;
           padding: 6px 8px; font-size: 13px; }
.word { font-weight: 600; border-radius: 999px; padding: 2px 10px; font-size: 13px; color: #fff; }
.word-covered { background: #059669; } .word-partial { background: #d97706; }
.word-collapsed { background: #dc2626; } .word-unknown { background: #6b7280; }
.phase { border: 1px solid #e5e7eb; border-radius: 8px; padding: 6px 8px; flex: 1 1 0; min-width: 130px; }
.phase-now { border-color: #2563eb; box-shadow: 0 0 0 2px #bfdbfe; }
.q-field--dense .q-field__label { font-size: 13px; }
"""


def head(current: str) -> None:
    """Builds the head of a page.

    Args:
        current: the name of the page.
    """
    ui.add_css(STYLE)
    ui.query(".nicegui-content").classes("p-3 gap-3")
    with ui.header().classes("items-center px-4 py-1 bg-slate-800 text-white"):
        ui.label("gan_lab studio").classes("text-lg font-semibold mr-4")
        for name, address, icon in PAGES:
            button = ui.button(name, icon=icon, on_click=lambda address=address: ui.navigate.to(address))
            button.props("flat dense no-caps color=white").classes("px-3")
            if name == current:
                button.classes("bg-slate-600")
        ui.space()
        ui.label("on this machine only").classes("text-xs opacity-70")


def show_problem(text: str) -> None:
    """Shows a message about what went wrong; it stays until it is closed."""
    ui.notify(text, type="negative", multi_line=True, close_button="Close", timeout=0, classes="whitespace-pre-line")
