"""The soak's samples as an SVG: four panels over one time axis, faults as ticks."""

WIDTH, HEIGHT, LEFT, TOP, GAP = 900, 150, 70, 30, 45
COLOURS = ["#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"]


def nice(value):
    """The next round number above."""
    size = 1.0
    while size * 10 <= value:
        size *= 10
    while size > value and size > 1e-9:
        size /= 10
    return next(size * step for step in (1, 2, 3, 5, 8, 10, 20) if size * step >= value)


def panel(index, title, series, end, parts):
    """`series` = [(name, colour, [(seconds, value)])]."""
    top = TOP + index * (HEIGHT + GAP)
    highest = nice(max([value for _, _, points in series for _, value in points] + [1e-6]))
    parts.append(f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{title}</text>')
    parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>')
    for part in range(5):
        y = top + HEIGHT * part / 4
        label = f"{highest * (4 - part) / 4:g}"
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    for number, (name, colour, points) in enumerate(series):
        path = " ".join(
            f"{LEFT + WIDTH * at / end:.1f},{top + HEIGHT * (1 - value / highest):.1f}" for at, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        parts.append(f'<text x="{LEFT + WIDTH + 8}" y="{top + 12 + 16 * number}" fill="{colour}">{name}</text>')
    return top


def draw(path, samples, faults, roles):
    if not samples:
        return
    end = samples[-1]["at"] or 1
    parts = []

    def of(value):
        return [(sample["at"], value(sample)) for sample in samples]

    colours = dict(zip(roles, COLOURS))
    panel(0, "resident memory, MB (largest process of each kind)", [
        (role, colours[role], of(lambda s: s["rss"].get(role, 0) / 1e6)) for role in roles], end, parts)
    panel(1, "open descriptors", [
        (role, colours[role], of(lambda s: s["fds"].get(role, 0))) for role in roles], end, parts)
    panel(2, "data directory, MB", [("ledger and blobs", COLOURS[1], of(lambda s: s["disk"] / 1e6))], end, parts)
    top = panel(3, "jobs", [
        ("accepted", COLOURS[1], of(lambda s: s["accepted"])), ("ended", COLOURS[2], of(lambda s: s["ended"]))],
        end, parts)
    base = top + HEIGHT
    for at, what, name in faults:
        x = LEFT + WIDTH * min(at, end) / end
        colour = "#d62728" if what == "kill" else "#1f77b4"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{base + 4}" y2="{base + 14}" stroke="{colour}"/>')
    parts.append(f'<text x="{LEFT}" y="{base + 30}">0</text>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{base + 30}" text-anchor="end">{end / 60:.0f} min</text>')
    parts.append(f'<text x="{LEFT + WIDTH + 8}" y="{base + 14}">kill, freeze</text>')
    with open(path, "w") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 130}" height="{base + 40}" '
            f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
            + "".join(parts) + "</svg>\n")
