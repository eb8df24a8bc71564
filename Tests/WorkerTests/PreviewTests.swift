import Checkpoint
import Compute
import DemoModel
import DenoiserService
import Diffusion
import Failure
import Media
import Request
import Stage
import Tensor
import Testing
import TextEncoderService
import Wire

/// What a denoiser shows while it runs, on the demo model inside this process.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct PreviewTests {
    private func run(isWatched: Bool) async throws -> (latents: Tensor, previews: [PreviewPicture]) {
        let folder = try ModelFolder(path: DemoModel.path()), backend = CPUBackend(threads: 2)
        let encoder = try TextEncoderHandler(folder: folder, backend: backend, budget: MemoryBudget(limit: nil))
        let encode = EncodeParameters(prompt: "the sun rising", negativePrompt: "", dtype: .float32)
        let encoded = try await encoder.run(
            StageTask(
                name: "job/encode", attempt: 1, parameters: try CanonicalJSON.encode(encode),
                port: LocalPort(inputs: [:])))
        let inputs = Dictionary(uniqueKeysWithValues: encoded.outputs.map { ($0.name, $0.tensor) })
        let port = LocalPort(inputs: inputs.filter { $0.key != "input_ids" }), progress = TaskProgress()
        if isWatched { progress.watch(for: .seconds(100)) }
        let parameters = DenoiseParameters(
            width: 96, height: 96, numFrames: 17, numInferenceSteps: 20, guidanceScale: 4, useDynamicCFG: false,
            scheduler: .ddim, seed: 7, dtype: .float32, allowUnsafeStepCount: true)
        let handler = try DenoiserHandler(folder: folder, backend: backend, budget: MemoryBudget(limit: nil))
        let result = try await handler.run(
            StageTask(
                name: "job/denoise", attempt: 1, parameters: try CanonicalJSON.encode(parameters), port: port,
                progress: progress))
        return (try #require(result.output("latents")), port.previews)
    }

    @Test("whoever looks gets JPEG pictures of the steps, and the result is the same as when nobody does")
    func watched() async throws {
        let (latents, previews) = try await run(isWatched: true)
        #expect(!previews.isEmpty)
        #expect(
            previews.map(\.step) == previews.map(\.step).sorted() && Set(previews.map(\.step)).count == previews.count)
        for preview in previews {
            #expect(preview.totalSteps == 20 && (1...20).contains(preview.step))
            #expect(preview.jpeg.count <= Limits.previewBytes)
            let picture = try InputImage(bytes: preview.jpeg)
            #expect(picture.format == .jpeg && picture.width == preview.width && picture.height == preview.height)
            // Four frames of 96 pixels and the gaps between them.
            #expect(preview.width == 4 * 96 + 5 * 4 && preview.height == 96 + 2 * 4)
        }
        let (alone, nothing) = try await run(isWatched: false)
        #expect(nothing.isEmpty)
        #expect(latents.withUnsafeBytes { left in alone.withUnsafeBytes { right in left.elementsEqual(right) } })
    }
}
