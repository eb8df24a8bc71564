import Failure
import Media
import Stage
import Synchronization
import Wire

/// Clips that were encoded while they were decoded, until the task comes that wants them.
///
/// They are known by their frames and by how they are encoded, so that a task takes the very packets that it would make
/// itself, whoever made the frames.
package final class EncodedClips: Sendable {
    struct Key: Hashable, Sendable {
        /// Of the bytes, which clips of other sizes may share.
        var frames: Digest
        var shape: ClipShape
        var container: VideoContainer
        var rate: FrameRate
    }

    private struct State {
        /// Jobs whose decodes are followed, and how many of each.
        var followed: [String: Int] = [:]
        /// The oldest first.
        var kept: [(key: Key, video: EncodedVideo)] = []
    }

    private let state = Mutex(State())

    /// What may wait here; whatever is older is dropped and encoded again when it is wanted.
    private static let clipLimit = 16
    static let byteLimit = 256 << 20

    package init() {}

    /// Clips that wait here.
    package var count: Int { state.withLock { $0.kept.count } }

    /// Jobs whose decodes are followed.
    package var followedJobs: Set<String> { state.withLock { Set($0.followed.keys) } }

    func begin(job: String) { state.withLock { $0.followed[job, default: 0] += 1 } }

    func end(job: String) {
        state.withLock { state in
            let left = state.followed[job, default: 1] - 1
            state.followed[job] = left > 0 ? left : nil
        }
    }

    func keep(_ video: EncodedVideo, as key: Key) {
        state.withLock { state in
            state.kept.removeAll { $0.key == key }
            state.kept.append((key, video))
            var bytes = state.kept.reduce(0) { $0 + $1.video.byteCount }
            while state.kept.count > Self.clipLimit || bytes > Self.byteLimit, let oldest = state.kept.first {
                bytes -= oldest.video.byteCount
                state.kept.removeFirst()
            }
        }
    }

    /// The clip, once nothing of its job is being encoded any more; nil when it was not encoded here.
    ///
    /// - Parameter check: asked while waiting; may throw to stop.
    func take(_ key: Key, job: String, check: () throws(Failure) -> Void) async throws(Failure) -> EncodedVideo? {
        while state.withLock({ $0.followed[job] != nil }) {
            try check()
            try? await Task.sleep(for: .milliseconds(2))
        }
        return state.withLock { state in
            guard let place = state.kept.firstIndex(where: { $0.key == key }) else { return nil }
            return state.kept.remove(at: place).video
        }
    }

    /// The job of a task's name.
    static func job(of task: String) -> String { String(task.prefix { $0 != "/" }) }
}
