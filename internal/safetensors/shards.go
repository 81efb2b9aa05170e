package safetensors

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/internal/files"
)

// ReadSharded reads a set of files by its index, model.safetensors.index.json, whose weight_map
// says which file beside it has which tensor. A tensor that is missing from its file, or in a file
// without being in the index, is an error, and so is a file name that leads out of the folder. The
// metadata is that of the index.
func ReadSharded(index string) (*File, error) {
	in, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	out := &File{Tensors: map[string]*tensor.Dense{}, Metadata: map[string]string{}, Skipped: map[string]DType{}}
	for k, v := range in.Metadata {
		if s, ok := v.(string); ok {
			out.Metadata[k] = s
		}
	}
	for _, shard := range in.shards {
		part, err := Read(filepath.Join(filepath.Dir(index), shard))
		if err != nil {
			return nil, err
		}
		for name, t := range part.Tensors {
			if in.WeightMap[name] != shard {
				return nil, indexError(index, "tensor %.80q is in %s but not in the weight_map for it", name, shard)
			}
			out.Tensors[name] = t
		}
		for name, dtype := range part.Skipped {
			out.Skipped[name] = dtype
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.WeightMap)) {
		if out.Tensors[name] == nil && out.Skipped[name] == "" {
			return nil, indexError(index, "tensor %.80q is not in %s", name, in.WeightMap[name])
		}
	}
	return out, nil
}

// WeightMap returns what an index says: the name of the file beside it that has each tensor.
func WeightMap(index string) (map[string]string, error) {
	in, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	return in.WeightMap, nil
}

// Shards returns the paths of the files that an index names, in order of their names.
func Shards(index string) ([]string, error) {
	in, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	for i, shard := range in.shards {
		in.shards[i] = filepath.Join(filepath.Dir(index), shard)
	}
	return in.shards, nil
}

// shardIndex is the content of an index.
type shardIndex struct {
	Metadata  map[string]any    `json:"metadata"`
	WeightMap map[string]string `json:"weight_map"`
	shards    []string          // names of the files, sorted
}

func readIndex(index string) (*shardIndex, error) {
	f, err := files.Open(index)
	if err != nil {
		return nil, fmt.Errorf("safetensors index: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, indexError(index, "%w", err)
	}
	if len(text) > maxIndex {
		return nil, indexError(index, "larger than %d bytes", maxIndex)
	}
	in := &shardIndex{}
	if err := json.Unmarshal(text, in); err != nil {
		return nil, indexError(index, "%w", err)
	}
	if len(in.WeightMap) == 0 {
		return nil, indexError(index, "weight_map is missing or empty")
	}
	shards := map[string]bool{}
	for _, shard := range in.WeightMap {
		shards[shard] = true
	}
	in.shards = slices.Sorted(maps.Keys(shards))
	for _, shard := range in.shards {
		if shard != filepath.Base(shard) || strings.ContainsAny(shard, `/\`) || !filepath.IsLocal(shard) || shard == "." {
			return nil, indexError(index, "%.80q is not the name of a file beside it", shard)
		}
	}
	return in, nil
}

func indexError(index, format string, args ...any) error {
	return fmt.Errorf("safetensors index %s: %w", index, fmt.Errorf(format, args...))
}
