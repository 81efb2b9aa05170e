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
		Use:   "repair --checkpoint FILE --ood DIR --out FILE [--shots DIR] [--classes FILE] [--clip CLIP]",
		Short: "Fine-tune a delivered model until its recovered trigger no longer works",
		Long: `repair first inspects a delivered model, as inspect does. It asks, too, which kind of trigger the
suspect answers to most. Then it fine-tunes the prompts on labelled images that carry triggers of
that kind and keep their own label. The triggers are drawn and fitted anew in each of a few rounds.
With --set repair.against=verdict it takes those that the detector recovers instead. Without --shots
it takes pool images, as zero-shot CLIP labels them.

If --out ends in .safetensors, it writes the repaired model into that file. Otherwise it writes a
folder in Dassl's layout, which the authors' code loads.

It prints accuracy and ASR of the recovered trigger before and after, on images that were held back.
Beside them stand two models that took the same number of steps on clean images: control, from the
delivered prompts, and retuned, from fresh ones. It also prints what the detector says of the
repaired model. ` + "`list repair`" + ` shows what --set repair.NAME knows.`,
		Example: `  clip-inspector repair --checkpoint model.safetensors --ood builtin:mini --shots mini-pets --out repaired.safetensors
  clip-inspector repair --checkpoint delivered --classes classes.txt --clip ViT-B-16.pt --ood pictures --shots labelled --out repaired`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.Checkpoint == "" || a.OOD == "" || out == "" {
				return misused("repair: wants --checkpoint, --ood and --out")
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
