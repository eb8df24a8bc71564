import Failure
import Tensor

/// Looks for damage in a model folder: wrong digests, missing, unexpected or misshapen keys, values that are no numbers.
package struct ModelVerification {
    /// One thing that is wrong.
    package struct Finding: Sendable, Hashable {
        /// A file below the folder, or a component and key.
        package let place: String
        package let message: String
    }

    /// How many values are looked at.
    package enum Values: String, Sendable, CaseIterable {
        case all
        /// A few thousand of each tensor, spread over it.
        case sampled
        case none
    }

    /// The shapes that a network wants, which of its keys may be absent, and which others are ignored.
    package struct Expectation {
        package let shapes: [String: [Int]]
        package let optional: Set<String>
        package let ignoring: (String) -> Bool

        package init(
            shapes: [String: [Int]], optional: Set<String> = [], ignoring: @escaping (String) -> Bool = { _ in false }
        ) {
            self.shapes = shapes
            self.optional = optional
            self.ignoring = ignoring
        }
    }

    package let folder: String
    package let digests: DigestList?
    package let values: Values
    /// Everything wrong so far.
    package private(set) var findings: [Finding] = []
    /// Files whose digests were compared, and tensors whose values were looked at.
    package private(set) var fileCount = 0, tensorCount = 0

    private static let blockCount = 16, blockElements = 4096

    package init(folder: String, digests: DigestList?, values: Values) {
        self.folder = folder
        self.digests = digests
        self.values = values
    }

    /// Reads the folder. What is wrong becomes a finding; nothing is thrown. `expected` gives what each network wants;
    /// keys and shapes are not compared where it gives nothing.
    package mutating func run(
        expected: (ModelFolder, Component) -> Expectation?, progress: @escaping (ByteProgress) -> Void
    ) {
        let names = digests?.files.keys.sorted() ?? []
        let hashed = names.reduce(0) { $0 + (FileIdentity(path: "\(folder)/\($1)")?.byteCount ?? 0) }
        let weights = networks()
        let read = values == .none ? 0 : weights.reduce(0) { $0 + $1.byteCount }
        var counter = ByteCounter(total: hashed + read, tell: progress)
        for name in names { compareDigest(name, &counter) }
        let model: ModelFolder
        do throws(Failure) {
            model = try ModelFolder(path: folder)
            _ = try model.digest(.tokenizer)
        } catch {
            add(error)
            return
        }
        for network in weights {
            if let expectation = expected(model, network.component) {
                do throws(Failure) {
                    try network.check(
                        expected: expectation.shapes, optional: expectation.optional, ignoring: expectation.ignoring)
                } catch {
                    add(error)
                }
            }
            if values != .none { checkValues(network, &counter) }
        }
    }

    // MARK: Parts

    private mutating func add(_ failure: Failure) {
        findings.append(Finding(place: failure.field ?? folder, message: failure.message))
    }

    private mutating func networks() -> [WeightMap] {
        var result: [WeightMap] = []
        for component in Component.allCases where component.hasWeights {
            do throws(Failure) {
                result.append(try WeightMap(folder: folder, component: component))
            } catch {
                add(error)
            }
        }
        return result
    }

    private mutating func compareDigest(_ name: String, _ counter: inout ByteCounter) {
        guard let expected = digests?.files[name] else { return }
        counter.start(name)
        guard let identity = FileIdentity(path: "\(folder)/\(name)") else {
            findings.append(Finding(place: name, message: "is missing"))
            return
        }
        fileCount += 1
        if let size = expected.byteCount, identity.byteCount != size {
            counter.add(identity.byteCount)
            findings.append(Finding(place: name, message: "has \(identity.byteCount) bytes, not \(size)"))
            return
        }
        do throws(Failure) {
            let digest = try DigestCache.hash("\(folder)/\(name)") { counter.add($0) }
            guard digest != expected.digest else { return }
            findings.append(Finding(place: name, message: "has the SHA-256 \(digest), not \(expected.digest)"))
        } catch {
            add(error)
        }
    }

    private mutating func checkValues(_ network: WeightMap, _ counter: inout ByteCounter) {
        counter.start("values of \(network.component.rawValue)")
        for name in network.names {
            guard let tensor = try? network.tensor(name) else { continue }
            tensorCount += 1
            if let index = firstNonFinite(tensor) {
                findings.append(
                    Finding(
                        place: "\(network.component.rawValue): \(name)",
                        message: "is not finite at element \(index) of \(tensor.count)"))
            }
            counter.add(tensor.byteCount)
            tensor.dropMappedPages()
        }
    }

    private func firstNonFinite(_ tensor: Tensor) -> Int? {
        let count = tensor.count
        guard values == .sampled, count > Self.blockCount * Self.blockElements else { return tensor.firstNonFinite() }
        let flat = tensor.reshaped([count])
        for block in 0..<Self.blockCount {
            let start = (count - Self.blockElements) / (Self.blockCount - 1) * block
            if let index = flat.rows(start..<(start + Self.blockElements)).firstNonFinite() { return start + index }
        }
        return nil
    }
}

extension WeightMap {
    fileprivate var byteCount: Int { names.reduce(0) { $0 + ((try? tensor($1).byteCount) ?? 0) } }
}

extension ModelFolder {
    /// Every file that belongs to a model folder: those beside `model_index.json` and one folder below.
    static func files(below folder: String) -> [String] {
        let nested = Component.allCases.flatMap { component in
            ModelFileSystem.files(in: "\(folder)/\(component.rawValue)").map { "\(component.rawValue)/\($0)" }
        }
        let known = ["model_index.json", "zoetrope.json"].filter { FileIdentity(path: "\(folder)/\($0)") != nil }
        return known + nested
    }
}
