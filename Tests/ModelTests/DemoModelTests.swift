import Checkpoint
import Compute
import DemoModel
import Failure
import Model
import Tensor
import TestSupport
import Testing

@Suite("The demo model")
struct DemoModelTests {
    @Test("all three networks load and give finite results in both dtypes", arguments: [DType.float32, .bfloat16])
    func networks(dtype: DType) throws {
        let folder = try ModelFolder(path: try DemoModel.path())
        let backend = testBackend()
        let encoder = try T5Encoder(folder: folder, backend: backend, dtype: dtype)
        let prompt = try encoder.encode(ids: [3, 4, 5, 1] + Array(repeating: 0, count: 28))
        #expect(prompt.shape == [folder.transformer.maxTextSeqLength, folder.transformer.textEmbedDim])
        let transformer = try Transformer3D(folder: folder, backend: backend, dtype: dtype)
        let session = try transformer.session(
            frames: 3, height: 6, width: 8, promptEmbeddings: [prompt], timesteps: [999])
        let latents = randomTensor([3, folder.vae.latentChannels, 6, 8], seed: 5)
        let prediction = try session.predict(latents: latents, timestep: 999)
        #expect(prediction.count == 1 && prediction[0].shape == latents.shape && prediction[0].dtype == .float32)
        let decoder = try AutoencoderKLDecoder(folder: folder, backend: backend, dtype: dtype)
        var frames = 0
        try decoder.decode(latents: prediction[0]) { chunk throws(Failure) in
            #expect(Array(chunk.shape.dropFirst()) == [48, 64, 3])
            frames += chunk.shape[0]
        }
        #expect(frames == 9)
    }
}
