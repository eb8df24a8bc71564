package import Failure
package import Tensor
package import Wire

/// What one kind of worker computes: the only part of a stage that differs from the others.
///
/// `run` is called on a thread of the worker's own, never on Swift's cooperative pool, so it may compute for hours.
/// With several slots it is called for several tasks at once.
package protocol StageHandler: Sendable {
    /// The stage's name on the wire: `denoiser`, `vae-decoder`.
    var stage: String { get }
    /// Digest of the model this worker holds, or empty where the stage needs none.
    var modelDigest: String { get }
    /// Identifies the arithmetic; a checkpoint resumes bit-exactly only on an equal one.
    var numerics: String { get }
    /// Whether the stage can stop at a step and another worker go on from there.
    var isResumable: Bool { get }
    /// Affinities of the tasks that could begin without loading or changing weights, for the beats. Must not wait: a
    /// beat does while this is asked.
    var warm: [String] { get }
    /// What the stage keeps and needs in memory, for the log line at start.
    var memoryPlan: MemoryPlan { get }

    /// Computes one task. A `Failure` is reported with its retry class; the worker goes on with the next task.
    func run(_ task: StageTask) async throws(Failure) -> StageResult

    /// Helps another worker of the stage with its task until there is nothing more to do; called like `run`. Results go to
    /// the leader. Ends with `assistance_ended` in the good case as well.
    func assist(_ assistance: StageAssistance) async throws(Failure)

    /// Takes the results of another stage's task as they come and prepares for the task that will read them; `run` is
    /// called for that one as ever, here or elsewhere. Several at once, beside the slots. Ends like `assist`.
    func follow(_ assistance: StageAssistance) async throws(Failure)
}

extension StageHandler {
    package var isResumable: Bool { false }

    package func assist(_ assistance: StageAssistance) async throws(Failure) {
        throw Failure("assistance_unsupported", "the stage \(stage) does not share its tasks", retry: .otherWorker)
    }

    package func follow(_ assistance: StageAssistance) async throws(Failure) {
        throw Failure("assistance_unsupported", "the stage \(stage) does not follow others", retry: .otherWorker)
    }

    package var warm: [String] { [] }

    /// What HELLO announces.
    package var capabilities: [Capability] { [Capability(stage: stage, model: modelDigest)] }
}

/// The named tensors a task made, and what the user should know about them.
package struct StageResult: Sendable {
    /// One tensor under the name that the task's contract gives it.
    package struct Output: Sendable {
        package var name: String
        package var tensor: Tensor
    }

    /// In the order they were added.
    package private(set) var outputs: [Output] = []
    /// Sentences for the job's status: a truncated prompt, a prompt that went in unchanged.
    package private(set) var notes: [String] = []
    /// What the stage chose by itself and may show in the outputs, at most `Limits.nameBytes` of text for the stages
    /// that read them; empty: as the task asked.
    package var manner = ""

    package init() {}

    /// Adds an output; it must not be written to afterwards.
    package mutating func add(_ name: String, _ tensor: Tensor) {
        outputs.append(Output(name: name, tensor: tensor))
    }

    /// Adds a note, cut to what the protocol carries.
    package mutating func note(_ text: String) {
        guard notes.count < Limits.notes else { return }
        notes.append(text.prefix(utf8Bytes: Limits.messageBytes))
    }

    /// The output `name`, or nil.
    package func output(_ name: String) -> Tensor? { outputs.first { $0.name == name }?.tensor }
}

extension String {
    /// The longest prefix of whole characters that fits into `limit` bytes of UTF-8; an ellipsis marks a cut.
    func prefix(utf8Bytes limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var kept = ""
        var bytes = "…".utf8.count
        for character in self {
            bytes += character.utf8.count
            if bytes > limit { break }
            kept.append(character)
        }
        return kept + "…"
    }
}
