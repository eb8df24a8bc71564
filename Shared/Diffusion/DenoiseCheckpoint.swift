package import Failure
package import Tensor

/// Everything that a denoising run needs to go on after a step, on any machine, to the same bits.
package struct DenoiseCheckpoint: Sendable {
    /// The latents after the last completed step.
    package var latents: Tensor
    /// Steps done; the next one is `timesteps[completedSteps]`.
    package var completedSteps: Int
    /// The DPM sampler's memory: x0 as the last step estimated it, float32. Nil before the first step.
    package var previousOriginal: Tensor?
    /// The noise generator where the last step left it.
    package var generator: TorchGenerator
    /// How many of the completed steps were computed in full: fewer with a step cache.
    package var computedSteps: Int
    /// The latents after each completed step, first to last, of a run that keeps them; otherwise empty.
    package var history: [Tensor] = []
    /// Digest of the model that the steps were made with; empty = not recorded.
    package var model = ""
    /// The arithmetic that made the last step; on an equal one the run goes on bit-exactly. Empty = not recorded.
    package var numerics = ""

    /// Identity of the adapters that the steps were made with; empty = none.
    package var adapters = ""

    /// - Parameter computedSteps: nil when every step was computed in full.
    package init(
        latents: Tensor, completedSteps: Int, previousOriginal: Tensor?, generator: TorchGenerator,
        computedSteps: Int? = nil
    ) {
        self.latents = latents
        self.completedSteps = completedSteps
        self.previousOriginal = previousOriginal
        self.generator = generator
        self.computedSteps = computedSteps ?? completedSteps
    }

    private static let format = "zoetrope-denoise-checkpoint/1"

    /// The checkpoint as a safetensors file in a uint8 tensor: `latents`, `previous_original`, `generator`, `history` and,
    /// in the metadata, the format, the steps done and, when they are fewer, the steps computed in full, the model, the
    /// adapters and the arithmetic.
    package func encode() -> Tensor {
        var tensors = [("latents", latents), ("generator", Tensor(bytes: generator.state))]
        if let previousOriginal { tensors.append(("previous_original", previousOriginal)) }
        var metadata = ["format": Self.format, "completed_steps": String(completedSteps)]
        if !history.isEmpty {
            tensors.append(("history", Tensor.concatenated(history.map { $0.reshaped([1] + $0.shape) })))
        }
        if !model.isEmpty { metadata["model"] = model }
        if !numerics.isEmpty { metadata["numerics"] = numerics }
        if !adapters.isEmpty { metadata["adapters"] = adapters }
        if computedSteps != completedSteps { metadata["computed_steps"] = String(computedSteps) }
        return SafetensorsWriter.encode(tensors, metadata: metadata)
    }

    /// Reads what `encode` made; anything else is `checkpoint_invalid`.
    package init(decoding bytes: Tensor) throws(Failure) {
        guard bytes.dtype == .uint8, bytes.shape.count == 1 else {
            throw Self.invalid("it is \(bytes.dtype) of shape \(bytes.shape), not bytes")
        }
        do throws(Failure) {
            let file = try SafetensorsFile(bytes: bytes, label: "denoise checkpoint")
            guard file.metadata["format"] == Self.format else {
                throw Self.invalid("its format is \(file.metadata["format"] ?? "not given"), not \(Self.format)")
            }
            guard let steps = file.metadata["completed_steps"].flatMap({ Int($0) }), steps >= 0 else {
                throw Self.invalid("the number of completed steps is missing")
            }
            completedSteps = steps
            let computed = file.metadata["computed_steps"].map { Int($0) } ?? steps
            guard let computed, (0...steps).contains(computed) else {
                throw Self.invalid("the number of computed steps is not one")
            }
            computedSteps = computed
            latents = try file.tensor("latents")
            let state = try file.tensor("generator").withUnsafeBytes { [UInt8]($0) }
            generator = try TorchGenerator(state: state)
            previousOriginal = file.contains("previous_original") ? try file.tensor("previous_original") : nil
            history = file.contains("history") ? try Self.steps(in: file.tensor("history"), count: steps) : []
            model = file.metadata["model"] ?? ""
            numerics = file.metadata["numerics"] ?? ""
            adapters = file.metadata["adapters"] ?? ""
        } catch {
            throw error.code == "checkpoint_invalid" ? error : Self.invalid(error.message)
        }
        guard latents.dtype.isFloatingPoint, previousOriginal?.shape ?? latents.shape == latents.shape,
            previousOriginal?.dtype ?? .float32 == .float32,
            history.allSatisfy({ $0.shape == latents.shape && $0.dtype == latents.dtype })
        else {
            throw Self.invalid("its tensors do not fit together")
        }
    }

    /// The latents after each step from the tensor that holds them all.
    private static func steps(in all: Tensor, count: Int) throws(Failure) -> [Tensor] {
        guard all.shape.first == count else {
            throw invalid("it holds latents after \(all.shape.first ?? 0) steps and \(count) are done")
        }
        return (0..<count).map { all.rows($0..<$0 + 1).reshaped(Array(all.shape.dropFirst())) }
    }

    private static func invalid(_ reason: String) -> Failure {
        Failure("checkpoint_invalid", "The denoise checkpoint cannot be used: \(reason).", field: "checkpoint")
    }
}
