/// How far a long pass over files is: what it is doing, and how many bytes of how many are done.
package struct ByteProgress: Sendable, Hashable {
    /// The file or component being worked on.
    package var place: String
    package var doneBytes: Int
    package var totalBytes: Int
}

/// Counts bytes and tells somebody.
struct ByteCounter {
    private var progress: ByteProgress
    private let tell: (ByteProgress) -> Void

    init(total: Int, tell: @escaping (ByteProgress) -> Void) {
        progress = ByteProgress(place: "", doneBytes: 0, totalBytes: total)
        self.tell = tell
    }

    mutating func start(_ place: String) { progress.place = place }

    mutating func add(_ bytes: Int) {
        progress.doneBytes += bytes
        tell(progress)
    }
}
