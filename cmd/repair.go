package cmd

import (
	"github.com/spf13/cobra"

	"clipinspector/experiments/audit"
)

func repairCommand(f *flags) *cobra.Command {
	var a audit.Audit
	var out, format string
	var epoch int
	c := &cobra.Command{
		Use:   "repair --checkpoint FILE --ood DIR --shots DIR --out FILE [--classes FILE] [--clip CLIP]",
		Short: "Fine-tune a delivered model until its recovered trigger no longer works",
		Long: `repair first inspects a delivered model, as inspect does. Then it fine-tunes the prompts on
labelled images that carry the recovered trigger and keep their own label. If --out ends in
.safetensors, it writes the repaired model into that file. Otherwise it writes a folder in
Dassl's layout, which the authors' code loads.

It prints accuracy and ASR of the recovered trigger before and after, on labelled images that
were held back. It also prints what the detector says of the repaired model. ` + "`list repair`" + ` shows
what --set repair.NAME knows.`,
		Example: `  clip-inspector repair --checkpoint model.safetensors --ood builtin:mini --shots mini-pets --out repaired.safetensors
  clip-inspector repair --checkpoint delivered --classes classes.txt --clip ViT-B-16.pt --ood pictures --shots labelled --out repaired`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.Checkpoint == "" || a.OOD == "" || a.Shots == "" || out == "" {
				return misused("repair: wants --checkpoint, --ood, --shots and --out")
			}
			a.Device, a.Threads, a.Report = f.device, f.threads, f.report()
			if err := checkAudit(a, format); err != nil {
				return err
			}
			r, err := audit.RepairDelivered(c.Context(), a, out, epoch)
			if err != nil {
				return err
			}
			if format == "json" {
				return audit.WriteJSON(c.OutOrStdout(), r)
			}
			return r.Print(c.OutOrStdout())
		},
	}
	auditFlags(c, &a)
	formatFlag(c, &format)
	c.Flags().StringVar(&out, "out", "", "file *.safetensors, or a folder for Dassl's layout")
	counted(c.Flags(), &epoch, "epoch", 0, 1, "epoch in the name of Dassl's file, for --load-epoch")
	return c
}
