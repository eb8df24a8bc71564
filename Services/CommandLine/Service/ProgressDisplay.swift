import Foundation

/// Shows a job's stages: bars that redraw in place on a terminal, one line per change elsewhere.
package struct ProgressDisplay: Sendable {
    private let isTerminal: Bool
    private let write: @Sendable (String) -> Void
    private var drawnLines = 0
    private var reported: [String: String] = [:]
    private var shownNotes: Set<String> = []

    package init(isTerminal: Bool, write: @escaping @Sendable (String) -> Void) {
        self.isTerminal = isTerminal
        self.write = write
    }

    package mutating func show(_ status: VideoStatus) {
        showNewNotes(of: status)
        if isTerminal { redraw(status) } else { reportChanges(of: status) }
    }

    private mutating func showNewNotes(of status: VideoStatus) {
        for note in status.notes where shownNotes.insert(note).inserted {
            clear()
            write("note: \(note)\n")
        }
    }

    private mutating func clear() {
        guard drawnLines > 0 else { return }
        write("\u{1b}[\(drawnLines)A\u{1b}[J")
        drawnLines = 0
    }

    private mutating func redraw(_ status: VideoStatus) {
        clear()
        var lines = Self.rows(of: status).map(Self.bar)
        if let position = status.queuePosition, position > 0 {
            lines.append("  \(position) jobs are ahead of this one")
        }
        if let remaining = status.remainingMilliseconds, remaining > 0, !status.isTerminal {
            lines.append("  about \(Self.duration(remaining)) left")
        }
        write(lines.map { $0 + "\n" }.joined())
        drawnLines = lines.count
    }

    private mutating func reportChanges(of status: VideoStatus) {
        for stage in Self.rows(of: status) {
            let tenths = stage.totalSteps > 0 ? stage.step * 10 / stage.totalSteps : 0
            let key = "\(stage.state) \(tenths) \(stage.attempt)"
            guard reported.updateValue(key, forKey: stage.task) != key, stage.state != "blocked", stage.state != "ready"
            else { continue }
            write(Self.bar(stage) + "\n")
        }
    }

    /// The stages, with the tiles of a clip as one: their steps and times together.
    package static func rows(of status: VideoStatus) -> [VideoStatus.Stage] {
        var groups: [[VideoStatus.Stage]] = []
        for stage in status.stages {
            if groups.last?.first?.stage == stage.stage {
                groups[groups.count - 1].append(stage)
            } else {
                groups.append([stage])
            }
        }
        return groups.map { $0.count == 1 ? $0[0] : joined($0) }
    }

    private static func joined(_ parts: [VideoStatus.Stage]) -> VideoStatus.Stage {
        var whole = parts[0]
        whole.task = whole.stage
        let states = ["failed", "cancelled", "running", "ready", "blocked"]
        whole.state = states.first { state in parts.contains { $0.state == state } } ?? "done"
        let steps = max(1, parts.map(\.totalSteps).max() ?? 1)
        whole.totalSteps = steps * parts.count
        whole.step = parts.reduce(0) { $0 + ($1.state == "done" ? steps : min($1.step, steps)) }
        whole.attempt = parts.map(\.attempt).max() ?? 0
        whole.elapsedMilliseconds = parts.reduce(0) { $0 + $1.elapsedMilliseconds }
        whole.remainingMilliseconds = parts.reduce(0) { $0 + $1.remainingMilliseconds }
        whole.worker = Set(parts.map(\.worker)).subtracting([""]).sorted().joined(separator: ", ")
        whole.notes = parts.flatMap(\.notes)
        return whole
    }

    /// `  denoiser      ━━━━━━━━━━────────── 12/25  3.1 s, 3.4 s left`
    package static func bar(_ stage: VideoStatus.Stage) -> String {
        let width = 24
        let isDone = stage.state == "done"
        let fraction = isDone ? 1 : stage.totalSteps > 0 ? min(1, Double(stage.step) / Double(stage.totalSteps)) : 0
        let filled = Int((fraction * Double(width)).rounded(.down))
        let bar = String(repeating: "━", count: filled) + String(repeating: "─", count: width - filled)
        var tail: String
        switch stage.state {
        case "done": tail = duration(stage.elapsedMilliseconds)
        case "running":
            tail = stage.totalSteps > 0 ? "\(stage.step)/\(stage.totalSteps)  " : ""
            tail += duration(stage.elapsedMilliseconds)
            if stage.remainingMilliseconds > 0 { tail += ", \(duration(stage.remainingMilliseconds)) left" }
        case "blocked": tail = ""
        case "ready": tail = "waiting for a worker"
        default: tail = stage.state
        }
        if stage.attempt > 1 { tail += "  (attempt \(stage.attempt))" }
        return "  " + stage.stage.padding(toLength: 17, withPad: " ", startingAt: 0) + bar + " " + tail
    }

    /// `0.42 s`, `12.3 s`, `4 min 05 s`, `3 h 07 min`.
    package static func duration(_ milliseconds: Int) -> String {
        let seconds = Double(milliseconds) / 1000
        if seconds < 10 { return String(format: "%.2f s", seconds) }
        if seconds < 120 { return String(format: "%.1f s", seconds) }
        let whole = Int(seconds.rounded())
        if whole < 7200 { return String(format: "%d min %02d s", whole / 60, whole % 60) }
        return String(format: "%d h %02d min", whole / 3600, whole % 3600 / 60)
    }
}
