import Checkpoint
import Synchronization

/// Shows a pass over files on stderr: a line that redraws itself on a terminal, one line a tenth elsewhere.
final class ByteProgressDisplay: Sendable {
    private struct State {
        var lastTenth = 0
        var lastShown: ContinuousClock.Instant?
        var isDrawn = false
    }

    private let start = ContinuousClock.now
    private let isTerminal = Console.isTerminal
    private let state = Mutex(State())

    func show(_ progress: ByteProgress) {
        let line = Self.line(progress, elapsed: .now - start)
        state.withLock { state in
            if isTerminal {
                if let last = state.lastShown, .now - last < .milliseconds(100) { return }
                state.lastShown = .now
                state.isDrawn = true
                Console.noteInPlace(line)
            } else {
                let tenth = progress.totalBytes > 0 ? progress.doneBytes * 10 / progress.totalBytes : 10
                guard tenth > state.lastTenth else { return }
                state.lastTenth = tenth
                Console.note(line)
            }
        }
    }

    func end() { if state.withLock({ $0.isDrawn }) { Console.noteInPlace("") } }

    /// `  transformer  3.2 of 11.1 GB, 29 %, 41 s left`
    static func line(_ progress: ByteProgress, elapsed: Duration) -> String {
        let share = progress.totalBytes > 0 ? Double(progress.doneBytes) / Double(progress.totalBytes) : 1
        var line =
            "  \(progress.place)  \(size(progress.doneBytes)) of \(size(progress.totalBytes)), \(Int(share * 100)) %"
        if share > 0, share < 1 {
            let left = Double(Console.milliseconds(elapsed)) * (1 - share) / share
            line += ", \(ProgressDisplay.duration(Int(left))) left"
        }
        return line
    }

    private static func size(_ bytes: Int) -> String {
        let (unit, name) = bytes < 1_000_000 ? (1e3, "kB") : bytes < 1_000_000_000 ? (1e6, "MB") : (1e9, "GB")
        return "\((Double(bytes) / unit * 10).rounded() / 10) \(name)"
    }
}
