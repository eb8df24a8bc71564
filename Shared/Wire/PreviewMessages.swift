/// How one of a job's earlier tasks was computed: what a finished file says of itself.
package struct TaskOrigin: Sendable, Hashable {
    /// The task's name in its job.
    package var task: String
    /// The arithmetic of the worker that finished it (`Hello.numerics`).
    package var numerics: String
    /// Whether it went on from a checkpoint of other arithmetic.
    package var isMixed: Bool
    /// `Complete.manner`.
    package var manner: String

    package init(task: String, numerics: String, isMixed: Bool = false, manner: String = "") {
        self.manner = manner
        self.task = task
        self.numerics = numerics
        self.isMixed = isMixed
    }
}

/// Worker → broker → client: a small picture of what a running task is about to become. Volatile: nobody repeats it and
/// no ledger knows it.
package struct Preview: Sendable, Hashable {
    package var lease: Lease
    /// Steps done when it was made, and in all.
    package var step: UInt32
    package var totalSteps: UInt32
    /// Pixels of the picture.
    package var width: UInt32
    package var height: UInt32
    /// At most `Limits.previewBytes`.
    package var jpeg: [UInt8]

    package init(lease: Lease, step: UInt32, totalSteps: UInt32, width: UInt32, height: UInt32, jpeg: [UInt8]) {
        self.lease = lease
        self.step = step
        self.totalSteps = totalSteps
        self.width = width
        self.height = height
        self.jpeg = jpeg
    }
}
