import CommandLineService
import Diffusion
import Failure
import Request
import Testing

@Suite struct ReplayComparisonTests {
    private func manifest(_ change: (inout VideoManifest) -> Void = { _ in }) -> VideoManifest {
        let request = GenerationRequest(
            model: "demo", prompt: "a sun", width: 96, height: 96, numFrames: 17, framesPerSecond: 8,
            numInferenceSteps: 25, guidanceScale: 4, scheduler: .ddim, seed: 7)
        var manifest = VideoManifest(
            MuxParameters(request: request, modelDigest: "abc"), prompt: nil,
            arithmetic: ["denoise": .init(name: "cpu/avx2/2")], libraries: ["avcodec": "61.3.100"],
            framesDigest: "f1", version: "1.2")
        change(&manifest)
        return manifest
    }

    private func compare(
        _ replay: VideoManifest, equalFiles: Bool = false, distance: Double? = nil
    ) throws -> ReplayComparison {
        try ReplayComparison(
            original: manifest(), replay: replay, areFilesEqual: equalFiles, pictureDistance: distance)
    }

    @Test("equal files are identical, and so are equal frames in files that differ")
    func identical() throws {
        let same = try compare(manifest(), equalFiles: true)
        #expect(same.isIdentical && same.report == ["bit-identical: the files are the same, byte for byte"])
        let later = try compare(manifest { $0.libraries["avcodec"] = "62.0.0" }, distance: 0.5)
        #expect(later.isIdentical && later.differences.map(\.path) == ["libraries.avcodec"])
        #expect(later.report[0].hasPrefix("bit-identical frames"))
        try later.check()
    }

    @Test("other frames are not identical, and what may have made them is named")
    func different() throws {
        let other = try compare(
            manifest {
                $0.framesDigest = "f2"
                $0.model.digest = "xyz"
                $0.arithmetic["denoise"]?.name = "cpu/avx512/2"
            })
        #expect(!other.isIdentical)
        #expect(other.differences.map(\.path) == ["arithmetic.denoise.name", "model.digest"])
        #expect(other.differences.allSatisfy { $0.touchesFrames })
        #expect(other.report.contains { $0.contains(#"model.digest: was "abc", is "xyz""#) })
        let failure = #expect(throws: Failure.self) { try other.check() }
        #expect(failure?.code == "replay_differs")
    }

    @Test("frames that nothing explains are said to be so")
    func unexplained() throws {
        let other = try compare(manifest { $0.framesDigest = "f2" })
        #expect(!other.isIdentical && other.report.contains { $0.contains("nothing in the manifests explains it") })
    }

    @Test("a file that shows other pictures than its manifest speaks of is not identical")
    func foreignPictures() throws {
        let foreign = try compare(manifest(), distance: 60)
        #expect(!foreign.isIdentical && foreign.report[0].contains("shows other pictures"))
    }

    @Test("text of others reaches the terminal without characters that it would obey")
    func escapes() throws {
        let hostile = try compare(manifest { $0.generator = "zoetrope \u{1b}[2J" })
        #expect(hostile.report.allSatisfy { !$0.contains("\u{1b}") })
    }
}
