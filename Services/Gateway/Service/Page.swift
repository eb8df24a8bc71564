import Hummingbird
import Request

/// `GET /`: one page to type a prompt, watch the stages and see the video. Everything it needs is in it.
enum Page {
    static func response(_ traits: ModelTraits) -> Response {
        let text = html.replacing(
            "{{MODEL}}",
            with: escaped(
                "\(traits.name) · \(traits.nativeWidth)×\(traits.nativeHeight), \(traits.nativeFrames) frames, "
                    + "\(traits.defaultSteps) steps"))
        return Response(
            status: .ok,
            headers: [
                .contentType: "text/html; charset=utf-8", .cacheControl: "no-store",
                .contentSecurityPolicy: "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                    + "connect-src 'self'; media-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
                    + "frame-ancestors 'none'",
            ],
            body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
    }

    private static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
    }

    private static let html = #"""
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>Zoetrope</title>
        <style>
        :root { color-scheme: light dark; --line: #8884; --fill: #3b82f6; --soft: #8881; }
        * { box-sizing: border-box; }
        body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
        h1 { font-size: 1.4rem; margin: 0; }
        .model, .note { color: #888; font-size: .875rem; }
        form { display: grid; gap: .75rem; margin: 1.5rem 0; }
        textarea, input, select, button { font: inherit; padding: .5rem .75rem; border: 1px solid var(--line);
          border-radius: .5rem; background: var(--soft); color: inherit; width: 100%; }
        textarea { min-height: 5rem; resize: vertical; }
        .row { display: grid; grid-template-columns: repeat(auto-fit, minmax(7rem, 1fr)); gap: .75rem; }
        .row label { font-size: .8rem; color: #888; }
        button { background: var(--fill); border: 0; color: #fff; cursor: pointer; }
        button:disabled { opacity: .5; cursor: default; }
        .stage { display: grid; grid-template-columns: 9rem 1fr 8rem; gap: .75rem; align-items: center; font-size: .9rem; }
        .bar { height: .5rem; border-radius: .25rem; background: var(--soft); overflow: hidden; }
        .bar i { display: block; height: 100%; background: var(--fill); transition: width .2s; }
        .stage.done .bar i { background: #22a06b; } .stage.failed .bar i { background: #d33; }
        .time { text-align: right; color: #888; font-variant-numeric: tabular-nums; }
        #error { color: #d33; white-space: pre-wrap; }
        video, .result img { max-width: 100%; min-width: 50%; border-radius: .5rem; margin-top: 1rem; display: block;
          image-rendering: auto; }
        #preview img { display: block; max-width: 100%; min-width: 50%; border-radius: .5rem; margin-top: 1rem; }
        #cancel { background: var(--soft); color: inherit; border: 1px solid var(--line); width: auto; }
        </style>
        </head>
        <body>
        <h1>Zoetrope</h1>
        <div class="model">{{MODEL}}</div>
        <form id="form">
          <textarea id="prompt" required maxlength="4000" aria-label="Prompt"
            placeholder="the sun rising over green hills"></textarea>
          <div class="row">
            <label>Seed<input id="seed" inputmode="numeric" pattern="[0-9]*" placeholder="random"></label>
            <label>Steps<input id="num_inference_steps" inputmode="numeric" pattern="[0-9]*" placeholder="default"></label>
            <label>Guidance<input id="guidance_scale" inputmode="decimal" placeholder="default"></label>
            <label>File<select id="container"><option>mp4</option><option>webm</option><option>gif</option></select></label>
          </div>
          <button id="go">Make the video</button>
        </form>
        <div id="error" role="alert"></div>
        <div id="stages" aria-live="polite"></div>
        <div id="preview"></div>
        <p class="note" id="note"></p>
        <button id="cancel" hidden>Cancel</button>
        <div class="result" id="result"></div>
        <script>
        "use strict";
        const el = id => document.getElementById(id);
        let source = null, previews = null, job = null;
        const seconds = ms => ms >= 60000 ? Math.floor(ms / 60000) + " min " + Math.round(ms % 60000 / 1000) + " s"
          : (ms / 1000).toFixed(1) + " s";
        function row(stage) {
          const line = document.createElement("div");
          line.className = "stage " + stage.state;
          const name = document.createElement("span");
          name.textContent = stage.stage;
          const bar = document.createElement("div");
          bar.className = "bar";
          const fill = document.createElement("i");
          const share = stage.state === "done" ? 1 : stage.total ? stage.step / stage.total : 0;
          fill.style.width = 100 * share + "%";
          bar.append(fill);
          const time = document.createElement("span");
          time.className = "time";
          time.textContent = stage.state === "done" ? seconds(stage.elapsed_ms)
            : stage.remaining_ms ? seconds(stage.remaining_ms) + " left"
            : stage.total ? stage.step + " / " + stage.total : stage.state === "blocked" ? "" : stage.state;
          line.append(name, bar, time);
          return line;
        }
        function show(video) {
          el("stages").replaceChildren(...video.x_stages.map(row));
          const notes = [...(video.x_request ? video.x_request.notes : []), ...video.x_stages.flatMap(s => s.notes)];
          const queue = video.status === "queued" && video.x_queue_position
            ? ["waiting behind " + video.x_queue_position + " jobs"] : [];
          el("note").textContent = ["seed " + video.seed, ...queue, ...notes].join(" · ");
          if (video.status === "completed") finish(video);
          if (video.status === "failed") fail(video.error ? video.error.message : "The job failed.");
        }
        function finish(video) {
          const path = "/v1/videos/" + encodeURIComponent(video.id) + "/content";
          const gif = video.x_request && video.x_request.container === "gif";
          const view = document.createElement(gif ? "img" : "video");
          view.src = path;
          if (!gif) { view.controls = view.loop = view.autoplay = view.muted = true; }
          const link = document.createElement("a");
          link.href = path;
          link.download = "";
          link.textContent = "Download";
          el("result").replaceChildren(view, link);
          idle();
        }
        // Pictures of what the steps foretell; the server makes them only while this page looks.
        function look(id) {
          previews = new EventSource("/v1/videos/" + encodeURIComponent(id) + "/previews");
          previews.addEventListener("preview", event => {
            const picture = JSON.parse(event.data);
            const image = el("preview").querySelector("img") || document.createElement("img");
            image.alt = "Step " + picture.step + " of " + picture.total;
            image.src = "data:image/jpeg;base64," + picture.data;
            el("preview").replaceChildren(image);
          });
          previews.addEventListener("end", () => previews && previews.close());
        }
        function fail(message) { el("error").textContent = message; idle(); }
        function idle() {
          if (source) source.close();
          if (previews) previews.close();
          source = previews = job = null;
          el("preview").replaceChildren();
          el("go").disabled = false;
          el("cancel").hidden = true;
        }
        function request() {
          const body = { prompt: el("prompt").value, container: el("container").value };
          for (const name of ["num_inference_steps", "guidance_scale"]) {
            if (el(name).value) body[name] = Number(el(name).value);
          }
          // Written by hand: a seed may have more digits than a JavaScript number keeps.
          const text = JSON.stringify(body);
          return el("seed").value ? text.slice(0, -1) + ',"seed":' + el("seed").value + "}" : text;
        }
        el("form").addEventListener("submit", async event => {
          event.preventDefault();
          el("error").textContent = el("note").textContent = "";
          el("stages").replaceChildren();
          el("result").replaceChildren();
          el("go").disabled = true;
          try {
            const answer = await fetch("/v1/videos", {
              method: "POST", headers: { "Content-Type": "application/json" }, body: request() });
            const video = await answer.json();
            if (!answer.ok) return fail(video.error.message);
            job = video.id;
            el("cancel").hidden = false;
            show(video);
            if (!job) return;
            source = new EventSource("/v1/videos/" + encodeURIComponent(job) + "/events");
            source.addEventListener("status", event => show(JSON.parse(event.data)));
            look(job);
          } catch (error) { fail("The gateway does not answer: " + error.message); }
        });
        el("cancel").addEventListener("click", () => {
          if (job) fetch("/v1/videos/" + encodeURIComponent(job), { method: "DELETE" });
        });
        </script>
        </body>
        </html>
        """#
}
