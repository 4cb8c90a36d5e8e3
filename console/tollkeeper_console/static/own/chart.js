// The chart of spending. Draws what /api/v1/…/spend answers; the page's table holds the same numbers. Amounts arrive as
// exact decimal strings and become floating point here only, for drawing.
(() => {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const at = (wall) => Date.parse(`${wall}Z`); // the limit's clock reading, drawn as it stands
  let chart = null;
  let canvas = null;
  let drawn = "";
  let data = null;

  const money = (unit) => unit === "USD";
  const written = (unit, value, short) => new Intl.NumberFormat("en", {
    ...(money(unit) ? { style: "currency", currency: "USD" } : {}),
    ...(short && Math.abs(value) >= 10000 ? { notation: "compact", maximumFractionDigits: 1 } : {}),
    ...(money(unit) && Math.abs(value) < 1 && value !== 0 ? { maximumFractionDigits: 6 } : {}),
  }).format(value);
  const clock = (ms, spanMs) => new Intl.DateTimeFormat("en-GB", {
    timeZone: "UTC",
    ...(spanMs > 2 * 864e5 ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" }),
  }).format(ms);
  const exactly = (ms) => new Intl.DateTimeFormat("en-GB", {
    timeZone: "UTC", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
  }).format(ms);

  const spent = (series) => {
    const now = at(series.now_wall);
    const line = [[at(series.since_wall), Number(series.before)]];
    for (const point of series.points) {
      const start = Math.max(at(point.wall), at(series.since_wall));
      if (start > line.at(-1)[0]) line.push([start, line.at(-1)[1]]);
      line.push([Math.min(at(point.wall) + series.slice_seconds * 1000, now), Number(point.cumulative)]);
    }
    line.push([now, Number(series.spent)]);
    return line;
  };

  const projected = (series) => {
    const { forecast } = series;
    if (forecast.status !== "Known" || !series.until_wall) return null;
    const now = at(series.now_wall);
    const end = at(series.until_wall);
    const from = Number(series.spent);
    const low = Number(forecast.low);
    return {
      median: [[now, from], [end, Number(forecast.median)]],
      low: [[now, from], [end, low]],
      band: [[now, 0], [end, Number(forecast.high) - low]],
      high: Number(forecast.high),
    };
  };

  const option = (series) => {
    const ink = style("--tk-ink-soft");
    const rule = style("--tk-rule");
    const accent = style("--tk-accent");
    const red = style("--tk-red");
    const future = projected(series);
    const cap = Number(series.cap);
    const start = at(series.since_wall);
    const end = series.until_wall ? at(series.until_wall) : at(series.now_wall);
    const top = Math.max(Number(series.spent), future ? future.high : 0);
    const capShown = cap > 0 && (cap <= top * 5 || series.range === "period");
    const quiet = { silent: true, symbol: "none", tooltip: { show: false } };
    return {
      animation: false,
      textStyle: { fontFamily: style("--tk-font"), color: ink },
      grid: { left: 8, right: 16, top: 24, bottom: 8, containLabel: true },
      tooltip: {
        trigger: "axis", renderMode: "richText", backgroundColor: style("--tk-panel"), borderColor: rule,
        textStyle: { color: style("--tk-ink") },
        formatter: (rows) => {
          const shown = rows.filter((row) => row.seriesName === "Spent" || row.seriesName === "Projection");
          if (!shown.length) return "";
          return [exactly(shown[0].value[0]), ...shown.map((row) => `${row.seriesName}  ${written(series.unit, row.value[1])}`)].join("\n");
        },
      },
      xAxis: {
        type: "time", min: start, max: end, axisLine: { lineStyle: { color: rule } }, splitLine: { show: false },
        axisLabel: { color: ink, hideOverlap: true, formatter: (ms) => clock(ms, end - start) },
      },
      useUTC: true,
      yAxis: {
        type: "value", min: 0, max: capShown ? Math.max(cap * 1.08, top * 1.05) : undefined,
        splitLine: { lineStyle: { color: rule, type: "dashed" } },
        axisLabel: { color: ink, formatter: (value) => written(series.unit, value, true), showMaxLabel: !capShown },
      },
      series: [
        {
          name: "Spent", type: "line", data: spent(series), showSymbol: false, lineStyle: { width: 2.5, color: accent },
          itemStyle: { color: accent }, areaStyle: { color: accent, opacity: 0.12 }, z: 3,
          markLine: {
            silent: true, symbol: "none", animation: false,
            data: [
              ...(capShown ? [{
                yAxis: cap, lineStyle: { color: red, type: "solid", width: 1.5 },
                label: { formatter: `Cap ${written(series.unit, cap)}`, position: "insideStartTop", color: red, fontWeight: 600 },
              }] : []),
              ...(future ? [{
                xAxis: at(series.now_wall), lineStyle: { color: ink, type: "dotted", width: 1 },
                label: { formatter: "Now", position: "insideEndTop", color: ink, rotate: 0, distance: [6, 4] },
              }] : []),
            ],
          },
        },
        ...(future ? [
          { name: "Low", type: "line", data: future.low, stack: "band", lineStyle: { opacity: 0 }, ...quiet },
          { name: "Band", type: "line", data: future.band, stack: "band", lineStyle: { opacity: 0 }, areaStyle: { color: accent, opacity: 0.16 }, ...quiet },
          { name: "Projection", type: "line", data: future.median, showSymbol: false, itemStyle: { color: accent }, lineStyle: { type: "dashed", width: 2, color: accent }, z: 2 },
        ] : []),
      ],
    };
  };

  const say = (text, retry) => {
    const state = document.getElementById("chart-state");
    state.textContent = text;
    state.hidden = !text;
    canvas.classList.toggle("is-idle", Boolean(text));
    if (retry) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "plain";
      button.textContent = "Try again";
      button.addEventListener("click", () => { drawn = ""; load(); });
      state.append(" ", button);
    }
  };

  const draw = () => {
    if (!data) return;
    if (!data.points.length && Number(data.spent) === 0) {
      say("Nothing was spent in this range yet.");
      return;
    }
    say("");
    chart ??= echarts.init(canvas, null, { renderer: "canvas" });
    chart.resize();
    chart.setOption(option(data), { notMerge: true });
    canvas.dataset.drawn = data.now;
  };

  const sized = new ResizeObserver(() => chart?.resize());

  const load = async () => {
    const holder = document.getElementById("chart");
    if (!holder) return;
    if (canvas !== document.getElementById("chart-canvas")) {
      chart?.dispose();
      chart = null;
      sized.disconnect();
      canvas = document.getElementById("chart-canvas");
      sized.observe(canvas);
    }
    const wanted = holder.dataset.src + holder.dataset.stamp;
    if (wanted === drawn) return;
    drawn = wanted;
    try {
      const answer = await fetch(holder.dataset.src, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error((await answer.json()).detail);
      const fresh = await answer.json();
      if (wanted !== drawn) return; // a newer question is on its way
      data = fresh;
      draw();
    } catch (error) {
      say(`The chart's data did not arrive: ${error.message}.`, true);
    }
  };

  document.addEventListener("htmx:after:swap", load);
  document.addEventListener("themechange", draw);
  load();
})();
