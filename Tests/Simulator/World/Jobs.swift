import Tensor
import Wire

/// What an undisturbed run would make of one step of one task of one request: the identity of its bytes.
struct Content: Hashable {
    let number: UInt64

    /// - Parameter step: 255 = the task's output.
    init(body: Int, task: Int, step: Int) { number = UInt64(body) << 16 | UInt64(task) << 8 | UInt64(step) | 1 << 40 }

    /// nil when `digest` names no content of this world: bytes computed from damaged ones.
    init?(_ digest: Digest) {
        let number = digest.prefix.byteSwapped
        guard number >> 40 == 1 else { return nil }
        self.number = number
    }

    private init(damaged number: UInt64) { self.number = number | 1 << 50 }

    /// What comes of computing with damaged bytes.
    var damaged: Content { Content(damaged: number) }

    var digest: Digest {
        let word = number.byteSwapped
        return Digest(words: (word, word, word, word))
    }

    func ref(at locations: [Location]) -> TensorRef {
        TensorRef(digest: digest, dtype: .uint8, shape: [1], locations: locations)
    }

    var description: String { "\(number >> 16 & 0xff_ffff).\(number >> 8 & 255).\(number & 255)" }
}

/// One job that a client wants done.
struct JobPlan {
    enum Nature { case ordinary, poison(task: Int), hopeless(task: Int) }

    var submit: Submit
    var nature: Nature
    /// Jobs of one body ask for the same bytes.
    var body: Int
    var beginsAt: UInt64
    /// The client uploads this before it submits.
    var upload: Content?
    var cancelsAt: UInt64?
    /// Cancels when the last task runs.
    var cancelsNearEnd = false
    /// Steps of denoising.
    var steps: UInt32 = 4
    /// The dead job that this one is to go on from.
    var retries: String?

    /// Steps of the stage's own work.
    func steps(of stage: String) -> UInt32 { stage == "denoiser" ? steps : stage == "decoder" ? 2 : 1 }
}

/// Graphs as `Request` makes them, and some that it does not make yet.
enum Graph: Int, CaseIterable {
    case video, single, tiles, chain, fromImage

    /// Name, stage, producers, durable.
    var tasks: [(name: String, stage: String, producers: [String], durable: Bool)] {
        switch self {
        case .single: [("encode", "encoder", [], true)]
        case .video, .fromImage:
            [
                ("encode", "encoder", [], true), ("denoise", "denoiser", ["encode"], true),
                ("decode", "decoder", ["denoise"], false), ("mux", "muxer", ["decode"], true),
            ]
        case .tiles:
            [
                ("encode", "encoder", [], true), ("denoise", "denoiser", ["encode"], true),
                ("decode-0", "decoder", ["denoise"], false), ("decode-1", "decoder", ["denoise"], false),
                ("mux", "muxer", ["decode-0", "decode-1"], true),
            ]
        case .chain:
            [
                ("encode", "encoder", [], true), ("denoise", "denoiser", ["encode"], false),
                ("decode", "decoder", ["denoise"], false), ("mux", "muxer", ["decode"], true),
            ]
        }
    }

    func specifications(upload: Content?, steps: UInt32) -> [TaskSpecification] {
        tasks.map { task in
            var inputs = task.producers.map { TaskInput(name: $0, source: .task(name: $0, output: "out")) }
            if task.name == "denoise", let upload {
                inputs.append(TaskInput(name: "init", source: .blob(upload.ref(at: []))))
            }
            let parameters = task.stage == "denoiser" ? "{\"numInferenceSteps\":\(steps)}" : "{}"
            return TaskSpecification(
                name: task.name, stage: task.stage, model: "m1", parameters: parameters, inputs: inputs,
                durableOutputs: task.durable)
        }
    }
}
