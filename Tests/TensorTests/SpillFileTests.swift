import Failure
import FoundationEssentials
import Tensor
import TestSupport
import Testing

@Suite struct SpillFileTests {
    private var folder: String { FileManager.default.temporaryDirectory.path }

    @Test("what was appended comes back in one tensor that lies in a file, and nothing is left in the folder")
    func roundTrip() throws {
        let before = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.contains("spill") }
        var file = try SpillFile(directory: folder)
        try file.append(Tensor([1, 2, 3], shape: [3]))
        try file.append(Tensor([4, 5, 6], shape: [3, 1]))
        #expect(file.byteCount == 24)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.contains("spill") } == before)
        var tensor = try file.tensor(shape: [2, 3], dtype: .float32)
        #expect(tensor.isInFile && tensor.floats() == [1, 2, 3, 4, 5, 6])
        tensor.dropMappedPages()
        #expect(tensor.floats() == [1, 2, 3, 4, 5, 6], "pages come back from the file")
        tensor.withUnsafeMutableBytes { $0.storeBytes(of: Float(9), as: Float.self) }
        #expect(!tensor.isInFile && tensor.floats()[0] == 9, "a write makes a copy in memory")
    }

    @Test("nothing appended is a tensor of nothing")
    func empty() throws {
        #expect(try SpillFile(directory: folder).tensor(shape: [0], dtype: .float32).count == 0)
    }

    @Test("a folder that is not there is refused by name, and another worker may try")
    func noFolder() throws {
        let failure = #expect(throws: Failure.self) { _ = try SpillFile(directory: folder + "/nowhere/at/all") }
        #expect(failure?.code == "cache_file_unusable" && failure?.retry == .otherWorker)
    }
}
