import Failure
import Foundation
import Media
import Model
import Tensor
import Testing

@Suite("Resizing as Pillow does")
struct ResamplingTests {
    /// A resized picture of the fixture: `METHOD-SOURCE-WxH`.
    struct Case {
        var method: String
        var source: Tensor
        var width: Int
        var height: Int
        var wanted: Tensor
    }

    static func cases(_ method: String) throws -> [Case] {
        let file = try MediaFixtures.tensors("resampling")
        return try file.names.filter { $0.hasPrefix(method + "-") }.map { name in
            let parts = name.split(separator: "-")
            let size = try parts[2].split(separator: "x").map { try #require(Int($0)) }
            return Case(
                method: method, source: try file.tensor(String(parts[1])), width: size[0], height: size[1],
                wanted: try file.tensor(name))
        }
    }

    @Test("enlarged or reduced, portrait or landscape, every bit is Pillow's", arguments: Resampling.allCases)
    func exact(resampling: Resampling) throws {
        let cases = try Self.cases(resampling.rawValue)
        #expect(cases.count == 20)
        for example in cases {
            let result = try resampling.resized(example.source, width: example.width, height: example.height)
            #expect(
                result.shape == example.wanted.shape && result.bytes == example.wanted.bytes,
                "\(example.source.shape) to \(example.wanted.shape)")
        }
    }

    @Test("cover is Pillow's ImageOps.fit")
    func cover() throws {
        for example in try Self.cases("cover") {
            let result = try ImageFit.cover.fitted(example.source, width: example.width, height: example.height)
            #expect(
                result.shape == example.wanted.shape && result.bytes == example.wanted.bytes,
                "\(example.source.shape) to \(example.wanted.shape): \(largestDifference(result, example.wanted))")
        }
    }

    @Test("contain puts Pillow's ImageOps.contain in the middle of black")
    func contain() throws {
        for example in try Self.cases("inner") {
            let result = try ImageFit.contain.fitted(example.source, width: example.width, height: example.height)
            #expect(result.shape == [example.height, example.width, 3])
            let (innerHeight, innerWidth) = (example.wanted.shape[0], example.wanted.shape[1])
            let top = (example.height - innerHeight) / 2, left = (example.width - innerWidth) / 2
            let (bytes, inner) = (result.bytes, example.wanted.bytes)
            for y in 0..<example.height {
                for x in 0..<example.width {
                    let isInside =
                        (top..<(top + innerHeight)).contains(y) && (left..<(left + innerWidth)).contains(x)
                    for channel in 0..<3 {
                        let wanted = isInside ? inner[((y - top) * innerWidth + x - left) * 3 + channel] : 0
                        #expect(bytes[(y * example.width + x) * 3 + channel] == wanted)
                    }
                }
            }
        }
    }

    @Test("stretch ignores proportions, and the frames of a video are resized one by one")
    func frames() throws {
        let frames = movingGradient(count: 3, width: 32, height: 20)
        for fit in ImageFit.allCases {
            let together = try fit.fitted(frames, width: 16, height: 16)
            #expect(together.shape == [3, 16, 16, 3])
            for index in 0..<3 {
                let one = frames.rows(index..<(index + 1)).reshaped([20, 32, 3])
                #expect(try fit.fitted(one, width: 16, height: 16).bytes == together.rows(index..<(index + 1)).bytes)
            }
        }
        let stretched = try ImageFit.stretch.fitted(frames, width: 16, height: 16)
        #expect(try stretched.bytes == Resampling.lanczos.resized(frames, width: 16, height: 16).bytes)
        #expect(try ImageFit.stretch.fitted(frames, width: 32, height: 20).bytes == frames.bytes)
    }

    @Test("an extreme shape is covered without making anything bigger than the result")
    func extreme() throws {
        let line = Tensor(bytes: (0..<(3 * 4000)).map { UInt8(truncatingIfNeeded: $0 / 3) }).reshaped([1, 4000, 3])
        let result = try ImageFit.cover.fitted(line, width: 64, height: 64)
        #expect(result.shape == [64, 64, 3])
        #expect(try ImageFit.contain.fitted(line, width: 64, height: 64).shape == [64, 64, 3])
    }

    @Test("wrong pictures and sizes are refused")
    func refusals() {
        let picture = Tensor(zeros: [4, 4, 3], dtype: .uint8)
        for (width, height) in [(0, 4), (4, 0), (-1, 4), (20_000, 4), (4, 20_000)] {
            #expect { try Resampling.lanczos.resized(picture, width: width, height: height) } throws: {
                ($0 as? Failure)?.code == "picture_size_invalid"
            }
        }
        for shape in [[4, 4], [4, 4, 4], [0, 4, 3], [2, 2, 4, 4, 3]] {
            #expect { try ImageFit.cover.fitted(Tensor(zeros: shape, dtype: .uint8), width: 4, height: 4) } throws: {
                ($0 as? Failure)?.code == "frames_shape_invalid"
            }
        }
        #expect(throws: Failure.self) { try ModelSpace.normalized(Tensor(zeros: [4, 4, 3])) }
    }

    @Test("levels enter the model's range as diffusers computes them")
    func modelSpace() throws {
        let levels = Tensor(bytes: (0...255).map { UInt8($0) })
        let wanted = try MediaFixtures.tensors("model_space").tensor("levels").floats()
        let values = try ModelSpace.normalized(levels)
        #expect(values.floats().map(\.bitPattern) == wanted.map(\.bitPattern))
        #expect(values.floats()[0] == -1 && values.floats()[255] == 1)
    }
}
